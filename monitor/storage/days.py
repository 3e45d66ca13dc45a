"""Partitions by day of event time: one a day of verdicts, judgements and payloads, made when they are needed.

What is older than the ledger's first day (13 months before it was migrated) shares one partition. A day that lies
more than a week ahead is refused: no clock is that wrong, and each partition costs every query a little.
"""

import threading
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Engine, text

from monitor.storage.engine import LedgerRefused, transaction

_AHEAD = timedelta(days=2)
_MAKE = text("select day, make_day(day) from unnest(cast(:days as date[])) as day order by day")


class Days:
    """Knows which days can be written to. May be used from several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._made: frozenset[date] = frozenset()
        self._making = threading.Lock()

    def ensure(self, moments: Iterable[datetime]) -> None:
        """See to it that events of these times can be written; tomorrow's, too.

        Raises:
            LedgerRefused: one lies more than a week ahead of the database's clock.
            LedgerUnavailable: Postgres is away or not migrated.
        """
        needed = {moment.date() for moment in moments} - self._made
        if not needed:
            return
        today = datetime.now(UTC).date()
        ahead = {today + timedelta(days=step) for step in range(_AHEAD.days + 1)}
        with self._making, transaction(self._engine) as connection:
            rows = connection.execute(_MAKE, {"days": sorted(needed | ahead)})
            made: dict[date, bool] = {row.day: row.make_day for row in rows}
        self._made |= {day for day, there in made.items() if there}
        if missing := needed - self._made:
            raise LedgerRefused(f"event_time {min(missing)}: more than a week ahead of the database's clock")

    def forget(self) -> None:
        """Retention dropped a day that somebody writes to: ask again."""
        self._made = frozenset()
