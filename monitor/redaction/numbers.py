"""Bank accounts, which carry check digits, and telephone numbers, which carry none."""

import re
import string

from monitor.redaction.pattern import Pattern

_IBAN_LENGTHS = range(15, 35)
_PHONE_DIGITS = range(8, 16)
_UPPER_DIGITS = bytes.maketrans(
    (string.digits + string.ascii_uppercase).encode(), b"0" * len(string.digits) + b"A" * len(string.ascii_uppercase)
)
_DIGITS = bytes.maketrans(string.digits.encode(), b"0" * len(string.digits))


def mod_97(text: str) -> bool:
    """Whether a text is an IBAN by length and check digits (ISO 13616, ISO/IEC 7064 MOD 97-10)."""
    packed = text.replace(" ", "")
    turned = packed[4:] + packed[:4]
    return len(packed) in _IBAN_LENGTHS and int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def _phone_length(text: str) -> bool:
    return sum(char.isdigit() for char in text) in _PHONE_DIGITS


def _iban_possible(raw: bytes) -> bool:
    return b"AA00" in raw.translate(_UPPER_DIGITS)


def _phone_possible(raw: bytes) -> bool:
    shape = raw.translate(_DIGITS, b" .-/()")
    return b"+0" in shape or b"0000000000" in shape


IBAN = Pattern(
    name="iban",
    expression=re.compile(r"(?<!\w)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)"),
    holds=mod_97,
    possible=_iban_possible,
)
PHONE = Pattern(
    name="phone",
    # With a country code (+ or 00), or as it is written in North America.
    expression=re.compile(
        r"(?<![\w+])(?:\+|00)[1-9][0-9]{0,2}(?:[ ./-]?\(?[0-9]{1,4}\)?){2,5}(?!\w)"
        r"|(?<![\w.])(?:\([0-9]{3}\) ?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}(?!\w|\.[0-9])"
    ),
    holds=_phone_length,
    possible=_phone_possible,
)
