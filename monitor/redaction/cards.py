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
    return b"0" * _SHORTEST in raw.translate(_DIGITS, b" -")


CARD = Pattern(
    name="card",
    # 13 to 19 digits in a row, or in groups.
    expression=re.compile(r"(?<![\w.])[0-9](?:[ -]?[0-9]){12,18}(?!\w|\.[0-9])"),
    holds=is_card,
    possible=_possible,
    in_numbers=True,
)
