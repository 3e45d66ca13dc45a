"""Times as people write them."""

import re
from datetime import UTC, datetime

from monitor.cli.durations import duration
from monitor.domain.errors import InvalidInput

_LASTING = re.compile(r"(?:[0-9]{1,6}[dhms]){1,4}")


def moment(written: str | None, option: str, *, now: datetime) -> datetime | None:
    """A time such as 2026-03-01, 2026-03-01T12:00:00Z, or 2d for two days ago; without a zone it is UTC.

    Raises:
        InvalidInput: it is none; names the option.
    """
    if written is None:
        return None
    if _LASTING.fullmatch(written):
        try:
            return now - duration(written, option)
        except OverflowError:
            raise InvalidInput(f"{option}: {written!r} ago is before all calendars") from None
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        raise InvalidInput(f"{option}: {written!r} is no time such as 2026-03-01T12:00:00Z, 2026-03-01 or 2d") from None
    try:
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"{option}: {written!r} is out of range") from None
