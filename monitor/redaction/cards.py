"""Payment cards: numbers that an issuer could have given out."""

import re
import string

from monitor.redaction.pattern import Pattern

_SHORTEST = 13
_ISSUED = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{17,18})"  # Visa: 13, 16, 18 and 19 digits
    r"|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|3(?:0[0-59]|[689][0-9])[0-9]{11,16}"  # Diners Club
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"  # JCB
    r"|(?:220[0-4]|8[12][0-9]{2}|9792)[0-9]{12,15}"  # Mir, RuPay, UnionPay, Troy
    # Discover (6011, 644 to 649, 65), UnionPay (62), Maestro (50, 56 to 69) and national schemes among them
    r"|(?:50|5[6-9]|6[0-9])[0-9]{11,17}"
)
"""First digits and lengths (ISO/IEC 7812-1).

None begins with 1, as all times do until 2033 that count seconds since 1970, or parts of them."""

BETWEEN = r"[ .\-\u00a0\u2007\u2009\u202f\u2010-\u2013\u2212]"
"""What stands between groups of digits: spaces, dots and dashes."""

_BETWEEN_BYTES = b" .-" + bytes(range(0x80, 0x100))
_DIGITS = bytes.maketrans(string.digits.encode(), b"0" * len(string.digits))


def luhn(text: str) -> bool:
    """Whether the digits of a text satisfy the check of ISO/IEC 7812-1, annex B; all alike is no card."""
    digits = [int(char) for char in text if char.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 and len(set(digits)) > 1


def is_card(text: str) -> bool:
    """Whether the digits of a text are a card's: by its issuer, its length and its check digit."""
    return _ISSUED.fullmatch("".join(filter(str.isdigit, text))) is not None and luhn(text)


def _possible(raw: bytes) -> bool:
    return b"0" * _SHORTEST in raw.translate(_DIGITS, _BETWEEN_BYTES)


def _layout(*groups: int) -> str:
    return f"{BETWEEN}{{1,3}}".join(f"[0-9]{{{digits}}}" for digits in groups) + _END


# Behind a letter no number begins, but behind an escape that was left in a text, or in the first track of a strip.
_START = r"(?:(?<![^\W_])|(?<=\\[nrtbf])|(?<=%B))(?<![0-9]\.)"
_END = r"(?![^\W_])"
_LAYOUTS = (
    _layout(4, 4, 4, 4, 3),
    _layout(4, 4, 4, 4),
    _layout(4, 6, 5),
    _layout(4, 6, 4),
    rf"[0-9]{{{_SHORTEST},19}}{_END}(?!\.[0-9]{{0,17}}[1-9])",
    # Other groups only where the whole row of them is one number: any row of amounts would hold many.
    rf"(?<![0-9][ -])[0-9](?:[ -]?[0-9]){{{_SHORTEST - 1},18}}{_END}(?![ -]?[0-9]|\.[0-9])",
)
CARD = Pattern(
    name="card",
    # Each layout is looked for at each place: more digits may stand before a card, and right behind it.
    expression=re.compile(
        rf"{_START}(?=[0-9](?:{BETWEEN}{{0,3}}[0-9]){{{_SHORTEST - 1}}})"
        + "".join(f"(?=(?P<value_{number}>{layout})?)" for number, layout in enumerate(_LAYOUTS))
    ),
    holds=is_card,
    possible=_possible,
    in_numbers=True,
)
