"""Retention: days that nobody keeps are dropped whole, without making writers wait; the rest goes row by row.

A partition is detached concurrently (Postgres's manual, "ALTER TABLE … DETACH PARTITION CONCURRENTLY"): nobody who
reads or writes other days waits. Tenants that keep theirs for a shorter time than others have rows deleted in small
transactions. In this order, so that nothing is lost that is kept for ever: what goes is promised (`expirations`), what
waits for the pool is given up, the pool's words are summed up, and then rows go. Rollups are never touched.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine, text

from monitor.storage.engine import LedgerBusy, driver_errors, snapshot
from monitor.storage.expirations import BEGINNING, EVERYBODY, Keeping, Scope, finish, midnight, promise, scopes
from monitor.storage.expired_escalations import count_expired, give_up_expired
from monitor.storage.retention_days import Day, days_of, drop_day
from monitor.storage.retention_rows import delete_of_days, take_rows
from monitor.storage.tables import escalations
from monitor.storage.trusted_hours import sum_up_for_good

logger = logging.getLogger(__name__)

TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "payloads": ("payloads",),
    "verdicts": ("judgement_rows", "verdict_rows"),
    "dead_letters": (),
}
"""Kinds of rows with a time of their own, and the tables of days that hold them."""

_LOCK = "select pg_try_advisory_lock(hashtextextended('groundwatch retention', 0))"


@dataclass(kw_only=True, slots=True)
class Expired:
    """What went.

    Attributes:
        partitions: dropped, by name.
        rows: deleted one by one, or blanked, by name.
        given_up: escalations that waited for the pool for longer than their text is kept.
        waiting: partitions that somebody holds, and days whose sums somebody is adding to: the next time.
    """

    partitions: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    given_up: int = 0
    waiting: list[str] = field(default_factory=list)

    def add(self, name: str, count: int) -> None:
        """Rows that went."""
        self.rows[name] = self.rows.get(name, 0) + count


def database_time(engine: Engine) -> datetime:
    """What time it is in Postgres.

    Raises:
        LedgerUnavailable: Postgres is away.
    """
    with snapshot(engine) as connection:
        at: datetime = connection.execute(text("select clock_timestamp()")).scalar_one()
    return at


def expire(engine: Engine, keeping: Mapping[str, Keeping], *, now: datetime, dry_run: bool = False) -> Expired | None:
    """Take away what is kept no longer; None when another process is at it.

    Args:
        engine: of the ledger, with a connection to spare.
        keeping: by kind, a key of `TABLES`.
        now: aware.
        dry_run: say what would go, and change nothing.

    Raises:
        LedgerUnavailable: Postgres is away. What is done is done; call again.
    """
    gone = Expired()
    with driver_errors(), engine.connect() as connection:
        steady = connection.execution_options(isolation_level="AUTOCOMMIT")
        if not steady.execute(text(_LOCK)).scalar_one():
            return None
        try:
            for kind, kept in keeping.items():
                _Pass(engine, steady, gone, now=now.astimezone(UTC), dry_run=dry_run).take(kind, kept)
        finally:
            if not steady.invalidated:
                steady.execute(text("select pg_advisory_unlock_all()"))
    return gone


class _Pass:
    """One look at rows of one kind."""

    def __init__(self, engine: Engine, steady: Connection, gone: Expired, *, now: datetime, dry_run: bool) -> None:
        self._engine = engine
        self._steady = steady
        self._gone = gone
        self._now = now
        self._dry_run = dry_run

    def take(self, kind: str, kept: Keeping) -> None:
        """Take away what is kept no longer."""
        today = self._now.date()
        if not TABLES[kind]:
            through = midnight(today - timedelta(days=kept.days))
            every = Scope(kind=kind, tenant=EVERYBODY, tenants=(), done=BEGINNING, through=through, promised=through)
            self._take_rows(every)
            return
        asked = scopes if self._dry_run else promise
        found = [self._prepared(scope) for scope in asked(self._engine, kind, kept, today=today)]
        first_kept = min(scope.through for scope in found).date()
        held = [one for table in TABLES[kind] for one in self._drop_days(table, first_kept, found)]
        for scope in found:
            for table in TABLES[kind]:
                days = [one for one in days_of(self._steady, table) if one.day >= first_kept]
                for count in delete_of_days(self._engine, scope, table, days, dry_run=self._dry_run):
                    self._gone.add(table, count)
            self._take_rows(scope)
            if not self._dry_run:
                finish(self._engine, scope, through=min([scope.through, *(midnight(one.day) for one in held)]))

    def _prepared(self, scope: Scope) -> Scope:
        """Give up what waits for the pool, and sum up the pool's words; what has to go now may be less after that."""
        tenants = escalations.c.tenant
        whose = tenants.not_in(scope.tenants) if scope.tenant == EVERYBODY else tenants == scope.tenant
        if self._dry_run:
            self._gone.given_up += count_expired(self._engine, before=scope.through, tenants=whose)
            return scope
        self._gone.given_up += give_up_expired(self._engine, before=scope.through, tenants=whose, at=self._now)
        if scope.kind != "verdicts":
            return scope
        summed = sum_up_for_good(self._engine, scope)
        if summed < scope.through:
            self._gone.waiting.append(f"{summed:%Y-%m-%d %H}:00")
        return replace(scope, through=summed.replace(hour=0))

    def _drop_days(self, table: str, first_kept: date, found: list[Scope]) -> Iterator[Day]:
        """Drop whole days; gives those that somebody holds."""
        # A younger one that is detached, or half so, is not retention's: somebody moves it elsewhere.
        promised = min(scope.promised for scope in found).date()
        for one in days_of(self._steady, table):
            if one.day >= (first_kept if one.attached and not one.pending else promised):
                continue
            try:
                if not self._dry_run:
                    drop_day(self._steady, one)
            except LedgerBusy as error:
                logger.warning("a day stays", extra={"partition": one.name, "error": str(error)})
                self._gone.waiting.append(one.name)
                yield one
            else:
                self._gone.partitions.append(one.name)

    def _take_rows(self, scope: Scope) -> None:
        for name, count in take_rows(self._engine, scope, dry_run=self._dry_run):
            self._gone.add(name, count)
