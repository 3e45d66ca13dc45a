"""Days of event time, one by one: years of history need not be read at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, func, select

from monitor.storage.engine import snapshot
from monitor.storage.tables import rollups, verdict_rows

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Event times in [since, until)."""

    since: datetime
    until: datetime


def days(engine: Engine, *, since: datetime | None, until: datetime | None) -> list[Span]:
    """UTC days from the first verdict to the last, cut to the bounds.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    first, last = _extent(engine)
    if first is None or last is None:
        return []
    end = last + timedelta(microseconds=1)
    return list(_cut(max(since or first, first), min(until or end, end)))


def _extent(engine: Engine) -> tuple[datetime | None, datetime | None]:
    """The first and the last moment of rollups, and of verdicts that have none."""
    counted = select(func.min(rollups.c.minute), func.max(rollups.c.minute))
    time = verdict_rows.c.event_time
    with snapshot(engine) as connection:
        first, last = connection.execute(counted).one()
        # No index knows the first verdict. What lies beyond the rollups is in partitions that are empty as a rule.
        before = select(func.min(time)) if first is None else select(func.min(time)).where(time < first)
        after = select(func.max(time)) if last is None else select(func.max(time)).where(time > last)
        least, greatest = connection.execute(before).scalar_one(), connection.execute(after).scalar_one()
    return least or first, greatest or last


def _cut(since: datetime, until: datetime) -> Iterator[Span]:
    while since < until:
        midnight = since.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
        yield Span(since=since, until=min(midnight, until))
        since = midnight
