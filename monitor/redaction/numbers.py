"""Bank accounts, which carry check digits, and telephone numbers, which carry none."""

import re
import string

from monitor.redaction.cards import BETWEEN
from monitor.redaction.pattern import Pattern

_IBAN_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK|FI|FK|FO|GL|NL|SD",
    19: "MK|SI",
    20: "AT|BA|EE|KZ|LT|LU|MN|XK",
    21: "CH|HR|LI|LV",
    22: "BG|BH|CR|DE|GB|GE|IE|ME|RS|VA",
    23: "AE|GI|IL|IQ|OM|SO|TL",
    24: "AD|CZ|ES|MD|PK|RO|SA|SE|SK|TN|VG",
    25: "LY|PT|ST",
    26: "IS|TR",
    27: "BI|DJ|FR|GR|IT|MC|MR|SM",
    28: "AL|AZ|BY|CY|DO|GT|HN|HU|LB|NI|PL|SV",
    29: "BR|EG|PS|QA|UA",
    30: "JO|KW|MU|YE",
    31: "MT|SC",
    32: "LC",
    33: "RU",
}
"""By length (SWIFT's registry of IBANs): a code of four letters may stand right behind an account."""

_PHONE_DIGITS = range(8, 16)
_UPPER_DIGITS = bytes.maketrans(
    (string.digits + string.ascii_uppercase).encode(), b"0" * len(string.digits) + b"A" * len(string.ascii_uppercase)
)
_DIGITS = bytes.maketrans(string.digits.encode(), b"0" * len(string.digits))


def mod_97(text: str) -> bool:
    """Whether an IBAN's check digits hold (ISO 13616, ISO/IEC 7064 MOD 97-10)."""
    packed = "".join(filter(str.isalnum, text))
    turned = packed[4:] + packed[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def _ibans() -> str:
    forms = (f"(?:{one})[0-9]{{2}}(?:{BETWEEN}?[A-Z0-9]){{{length - 4}}}" for length, one in _IBAN_COUNTRIES.items())
    return "|".join(forms)


def _phone_length(text: str) -> bool:
    return sum(char.isdigit() for char in text) in _PHONE_DIGITS


def _iban_possible(raw: bytes) -> bool:
    return b"AA00" in raw.translate(_UPPER_DIGITS)


def _phone_possible(raw: bytes) -> bool:
    shape = raw.translate(_DIGITS, b" .-/()")
    return b"+0" in shape or b"0000000000" in shape


IBAN = Pattern(
    name="iban",
    expression=re.compile(rf"(?:(?<![^\W_])|(?<=\\[nrtbf]))(?=[A-Z]{{2}}[0-9]{{2}})(?:{_ibans()})(?![^\W_])"),
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
