"""E-mail addresses, and secrets as programs know them."""

import base64
import re
import threading
from functools import cached_property

from monitor.redaction.pattern import Pattern

_LONG_WORD = 16
_KEPT_BYTES = 1_048_576  # what is larger is looked at anew rather than kept in memory

# What has to be there for any to be found. Each expression begins with a letter of its own, best a rare one, which is
# looked for at the speed of memory; one expression for all would be many times slower. Those that share a rare letter
# share a look.
_TOKEN_SIGNS = tuple(
    re.compile(sign)
    for sign in (
        *(rb"J(?<=eyJ)", rb"A(?:KIA|SIA|Iza)"),
        rb"_(?:(?<=k_)(?:live|test)_|(?<=gh[pousr]_)|(?<=gw_)|(?<=github_)pat_)",
        rb"-(?:(?<=sk-)[A-Za-z0-9_-]{20}|(?<=xox[a-z]-)|(?<=xapp-)|(?<=glpat-))",
    )
)
_NAME_SIGNS = tuple(
    re.compile(sign)
    for sign in (
        *(rb"p(?:ass(?:w|phrase)|wd)", rb"secret"),
        (
            rb"k(?:ey(?:(?<=apikey)|(?<=api.key)|(?<=accesskey)|(?<=access.key)|(?<=privatekey)|(?<=private.key))"
            rb"|en(?:(?<=accesstoken)|(?<=access.token)|(?<=authtoken)|(?<=auth.token)"
            rb"|(?<=refreshtoken)|(?<=refresh.token)))"
        ),
    )
)
_AUTHORIZATION_SIGN = re.compile(rb"z(?<=authoriz)ation")
_SCHEME_SIGN = re.compile(rb"b(?:earer|asic)")

# A token begins where no token goes on: each place in a long run is then tried once. It ends where the run does.
_START, _END, _REST = r"(?<![A-Za-z0-9_-])", r"(?![A-Za-z0-9_-])", r"[A-Za-z0-9_-]*+"
_TOKENS = (
    rf"(?:AKIA|ASIA)[A-Z0-9]{{16}}{_END}",  # AWS access keys
    rf"gh[pousr]_[A-Za-z0-9]{{36}}{_REST}",  # GitHub
    rf"github_pat_[A-Za-z0-9_]{{22}}{_REST}",
    rf"glpat-[A-Za-z0-9_-]{{20}}{_REST}(?:\.[a-z0-9]{{2}}\.[a-z0-9]{{7,9}})?",  # GitLab
    rf"(?:xox[abceoprs]|xapp)-[A-Za-z0-9-]{{10}}{_REST}",  # Slack
    rf"sk-[A-Za-z0-9_-]{{20}}{_REST}",  # OpenAI, Anthropic and others
    rf"AIza[A-Za-z0-9_-]{{35}}{_END}",  # Google
    rf"[rs]k_(?:live|test)_[A-Za-z0-9]{{16}}{_REST}",  # Stripe
    rf"gw_[A-Za-z0-9_-]{{43}}{_END}",  # our own
    rf"eyJ[A-Za-z0-9_-]{{8}}{_REST}(?:\.{_REST}){{2,4}}+",  # JSON Web Tokens, signed or encrypted
)
_NAMED = (
    r"password|passwd|passphrase|pwd|secret(?:[_-]?key)?|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|(?:access|auth|refresh)[_-]?token"
)
# Between a name and its value; the quotes may be escaped, even several times.
_QUOTES = r"[\\\"']{0,8}"
_IS = rf"{_QUOTES}\s{{0,3}}(?>:=|=>|={{1,3}}|:)\s{{0,3}}"
# In quotes all that they hold, in a line; what is cut ends with the text. A name in quotes that ends in `=` has none.
_QUOTED = r"(?P<quote>[\"'])(?![\s,:;)}\]])(?P<value>(?:\\.|(?!(?P=quote))[^\n\\])++)(?:(?P=quote)|\Z)"
# Within a text of JSON: a quote with one more backslash before it is the value's own.
_QUOTED_WITHIN = (
    r"(?P<escaped>\\{1,7}[\"'])(?![\s,:;)}\]])(?P<value_2>(?:(?!(?<!\\)(?P=escaped))[^\n])++)(?:(?P=escaped)|\Z)"
)
# A run to where the next `name=` or the next sentence begins: some values have semicolons and commas in them.
_PLAIN = r"[^\s\"',;&<>\\]"
_RUN = rf"(?:{_PLAIN}|[,;&](?={_PLAIN})(?![\w.-]{{1,64}}[=:])|\\(?![nrtbfu\"'\\/]))"
_BEGIN = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"


def _token_possible(raw: bytes) -> bool:
    return any(sign.search(raw) for sign in _TOKEN_SIGNS)


def _named_possible(raw: bytes) -> bool:
    return any(sign.search(_last_look(raw).lowered) for sign in _NAME_SIGNS)


def _authorization_possible(raw: bytes) -> bool:
    return _last_look(raw).authorization


def _bearer_possible(raw: bytes) -> bool:
    look = _last_look(raw)
    return look.authorization or (look.scheme and b"bearer" in look.lowered)


def _basic_possible(raw: bytes) -> bool:
    look = _last_look(raw)
    return look.scheme and b"basic" in look.lowered


class _Look:
    """What several patterns ask of a text, one after the other."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.lowered = raw.lower()

    @cached_property
    def authorization(self) -> bool:
        return _AUTHORIZATION_SIGN.search(self.lowered) is not None

    @cached_property
    def scheme(self) -> bool:
        return _SCHEME_SIGN.search(self.lowered) is not None


_looks = threading.local()


def _last_look(raw: bytes) -> _Look:
    """One a thread. Told by identity: to hash a text takes longer than to look at it."""
    last: _Look | None = getattr(_looks, "last", None)
    if last is None or last.raw is not raw:
        last = _Look(raw)
        _looks.last = last if len(raw) <= _KEPT_BYTES else None
    return last


def _is_credential(found: str) -> bool:
    """Of what stands behind `Bearer`: prose has neither digits there nor words so long."""
    return len(found) >= _LONG_WORD or any(map(str.isdigit, found))


def _is_basic(found: str) -> bool:
    """Whether it is a name and a password in base64 (RFC 7617)."""
    try:
        return ":" in base64.b64decode(found.rstrip("=") + "=" * (-len(found.rstrip("=")) % 4)).decode()
    except ValueError:
        return False


EMAIL = Pattern(
    name="email",
    expression=re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}(?:@|%40)(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])"),
    possible=lambda raw: b"@" in raw or b"%40" in raw,
)
SECRET_TOKEN = Pattern(
    name="secret",
    expression=re.compile(f"{_START}(?:{'|'.join(_TOKENS)})"),
    possible=_token_possible,
)
SECRET_KEY = Pattern(
    name="secret",
    # PEM and PGP, encrypted or not, with headers or without; its lines may be escaped. Where the end is missing, all of
    # the text, or of the quotes that it stands in.
    expression=re.compile(
        rf"{_BEGIN}(?:[^-]*+(?:-(?!----)[^-]*+)*+-----END [A-Z0-9 ]{{0,40}}PRIVATE KEY(?: BLOCK)?-----|[^\"]*+)"
    ),
    possible=lambda raw: b"PRIVATE KEY" in raw,
)
SECRET_HOOK = Pattern(
    name="secret",
    expression=re.compile(
        r"hooks\.slack\.com/(?P<value>(?:services|workflows|triggers)/[A-Za-z0-9_/-]{16}[A-Za-z0-9_/-]*+)"
    ),
    possible=lambda raw: b"hooks.slack.com" in raw,
)
SECRET_HEADER = Pattern(
    name="secret",
    # Behind the header's name whatever follows a scheme; else what looks like no word.
    expression=re.compile(
        rf"authorization{_IS}{_QUOTES}(?:bearer|basic|token|api-?key|negotiate)[ \t]{{1,4}}(?P<value>[^\s\"',;\\]++)",
        re.IGNORECASE,
    ),
    possible=_authorization_possible,
)
SECRET_BEARER = Pattern(
    name="secret",
    expression=re.compile(
        rf"(?:\bbearer\s{{1,4}}|authorization{_IS}{_QUOTES})(?P<value>[A-Za-z0-9._~+/=-]{{4,}}+)", re.IGNORECASE
    ),
    holds=_is_credential,
    possible=_bearer_possible,
)
SECRET_BASIC = Pattern(
    name="secret",
    expression=re.compile(r"\bbasic\s{1,4}(?P<value>[A-Za-z0-9+/_-]{4,}+={0,2})", re.IGNORECASE),
    holds=_is_basic,
    possible=_basic_possible,
)
SECRET_IN_URL = Pattern(
    name="secret",
    expression=re.compile(r"://(?P<value>[^\s/:@\"<>]{0,128}:[^\s/\"<>]{1,1024})@"),
    possible=lambda raw: b"@" in raw and b"://" in raw,
)
SECRET_NAMED = Pattern(
    name="secret",
    # In quotes, or a run: of any length behind `=`, where prose has a colon or spaces.
    expression=re.compile(
        rf"(?:{_NAMED}){_IS}(?:{_QUOTED}|{_QUOTED_WITHIN}"
        rf"|(?<==){_QUOTES}(?P<value_3>{_RUN}++)|{_QUOTES}(?P<value_4>{_RUN}{{4,}}+))",
        re.IGNORECASE,
    ),
    possible=_named_possible,
)
