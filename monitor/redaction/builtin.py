"""The patterns that settings can name."""

from collections.abc import Mapping
from types import MappingProxyType

from monitor.redaction.cards import CARD
from monitor.redaction.numbers import IBAN, PHONE
from monitor.redaction.pattern import Pattern
from monitor.redaction.words import (
    EMAIL,
    SECRET_BASIC,
    SECRET_BEARER,
    SECRET_HEADER,
    SECRET_HOOK,
    SECRET_IN_URL,
    SECRET_KEY,
    SECRET_NAMED,
    SECRET_TOKEN,
)

BUILT_IN: Mapping[str, tuple[Pattern, ...]] = MappingProxyType(
    {
        "email": (EMAIL,),
        "phone": (PHONE,),
        "card": (CARD,),
        "iban": (IBAN,),
        "secret": (
            *(SECRET_KEY, SECRET_TOKEN, SECRET_HOOK),
            *(SECRET_HEADER, SECRET_BEARER, SECRET_BASIC, SECRET_IN_URL, SECRET_NAMED),
        ),
    }
)
"""By name. What stands first is replaced first."""
