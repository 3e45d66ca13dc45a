"""Lengths of time as people write them."""

import re
from datetime import timedelta

from monitor.domain.errors import InvalidInput

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_LASTING = re.compile(r"(?:[0-9]{1,6}[dhms]){1,4}")


def duration(text: str, option: str) -> timedelta:
    """A length of time such as 30m, 2h or 1d12h.

    Raises:
        InvalidInput: it is none; names the option.
    """
    if not _LASTING.fullmatch(text):
        raise InvalidInput(f"{option}: {text!r} is no time such as 30m, 2h or 1d12h")
    parts = re.findall(r"([0-9]+)([dhms])", text)
    return sum((timedelta(**{_UNITS[unit]: int(count)}) for count, unit in parts), timedelta())
