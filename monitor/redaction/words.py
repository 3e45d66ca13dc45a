"""E-mail addresses, and secrets as programs know them."""

import re

from monitor.redaction.pattern import Pattern

# What has to be there for any to be found. Each begins with letters of its own, which are looked for at the speed of
# memory; one expression for all would be many times slower.
_NAME_SIGNS = tuple(
    re.compile(sign)
    for sign in (rb"passw", rb"pwd", rb"secret", rb"api[_-]?key", rb"access[_-]?(?:key|token)", rb"auth[_-]?token")
)
_TOKEN_SIGNS = tuple(
    re.compile(sign)
    for sign in (
        *(rb"AKIA", rb"ASIA", rb"gh[pousr]_", rb"github_pat_", rb"xox[a-z]-", rb"sk-[A-Za-z0-9_-]{20}", rb"AIza"),
        *(rb"k_(?:live|test)_", rb"gw_", rb"eyJ"),
    )
)

# A token begins where no token goes on: each place in a long run is then tried once.
_START, _END = r"(?<![A-Za-z0-9_-])", r"(?![A-Za-z0-9_-])"
_TOKENS = (
    r"(?:AKIA|ASIA)[A-Z0-9]{16}",  # AWS access keys
    r"gh[pousr]_[A-Za-z0-9]{36,255}",  # GitHub
    r"github_pat_[A-Za-z0-9_]{22,255}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,255}",  # Slack
    r"sk-[A-Za-z0-9_-]{20,255}",  # OpenAI, Anthropic and others
    r"AIza[A-Za-z0-9_-]{35}",  # Google
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,255}",  # Stripe
    r"gw_[A-Za-z0-9_-]{43}",  # our own
    r"eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{8,1024}",  # JSON Web Tokens
)
_NAMED = r"password|passwd|pwd|secret|api[_-]?key|access[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret"


def _token_possible(raw: bytes) -> bool:
    return any(sign.search(raw) for sign in _TOKEN_SIGNS)


def _named_possible(raw: bytes) -> bool:
    lowered = raw.lower()
    return any(sign.search(lowered) for sign in _NAME_SIGNS)


EMAIL = Pattern(
    name="email",
    expression=re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])"),
    possible=lambda raw: b"@" in raw,
)
SECRET_TOKEN = Pattern(
    name="secret",
    expression=re.compile(f"{_START}(?:{'|'.join(_TOKENS)}){_END}"),
    possible=_token_possible,
)
SECRET_KEY = Pattern(
    name="secret",
    # PEM; its lines may be escaped. Where the end is missing, up to where base64 ends.
    expression=re.compile(
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----[A-Za-z0-9+/=\s\\]{0,16384}"
        r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----)?"
    ),
    possible=lambda raw: b"PRIVATE KEY-----" in raw,
)
SECRET_BEARER = Pattern(
    name="secret",
    expression=re.compile(r"\bbearer\s{1,4}(?P<value>[A-Za-z0-9._~+/=-]{16,4096})", re.IGNORECASE),
    possible=lambda raw: b"bearer" in raw.lower(),
)
SECRET_IN_URL = Pattern(
    name="secret",
    expression=re.compile(r"://(?P<value>[^\s/:@]{1,128}:[^\s/@]{1,256})@"),
    possible=lambda raw: b"://" in raw and b"@" in raw,
)
SECRET_NAMED = Pattern(
    name="secret",
    expression=re.compile(
        rf"(?<![A-Za-z])(?:{_NAMED})[\\\"']{{0,8}}\s{{0,3}}[:=]\s{{0,3}}[\\\"']{{0,8}}(?P<value>[^\s\"',;&<>\\]{{6,256}})",
        re.IGNORECASE,
    ),
    possible=_named_possible,
)
