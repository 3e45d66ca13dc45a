"""Days of event time, one by one: years of history need not be read at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, func, select

from monitor.storage.engine import snapshot
from monitor.storage.tables import rollups, verdicts

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
    first = func.least(
        select(func.min(rollups.c.minute)).scalar_subquery(), select(func.min(verdicts.c.event_time)).scalar_subquery()
    )
    last = func.greatest(
        select(func.max(rollups.c.minute)).scalar_subquery(), select(func.max(verdicts.c.event_time)).scalar_subquery()
    )
    with snapshot(engine) as connection:
        row = connection.execute(select(first, last)).one()
    return row[0], row[1]


def _cut(since: datetime, until: datetime) -> Iterator[Span]:
    while since < until:
        midnight = since.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
        yield Span(since=since, until=min(midnight, until))
        since = midnight
