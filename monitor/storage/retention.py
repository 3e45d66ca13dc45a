"""Retention: days that nobody keeps are dropped whole, without making writers wait; the rest goes row by row.

A partition is detached concurrently (Postgres's manual, "ALTER TABLE … DETACH PARTITION CONCURRENTLY"): nobody who
reads or writes other days waits. Tenants that keep theirs for a shorter time than others have rows deleted in small
transactions. Up to when rows are gone stands in `expirations`, for recounts. Rollups are never touched.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine, TextClause, or_, text
from sqlalchemy.sql.elements import ColumnElement

from monitor.storage.engine import driver_errors, transaction
from monitor.storage.expired_escalations import count_expired, give_up_expired
from monitor.storage.tables import escalations

logger = logging.getLogger(__name__)

TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "payloads": ("payloads",),
    "verdicts": ("judgement_rows", "verdict_rows"),
}
"""Kinds of rows with a time of their own, and the tables that hold them."""

_BY_SEGMENT = "segment_id in (select segment_id from segments where tenant"
_OF_TENANT = {"payloads": "tenant", "verdict_rows": _BY_SEGMENT, "judgement_rows": _BY_SEGMENT}
_CLOSING = {"payloads": "", "verdict_rows": ")", "judgement_rows": ")"}
_EVERYBODY = "*"
_BATCH = 10_000
_LOCK = "select pg_try_advisory_lock(hashtextextended('groundwatch retention', 0))"

_PARTITIONS = text("""
select child.relname as name, inherits.inhrelid is not null as attached, coalesce(inhdetachpending, false) as pending
from pg_class as child
left join pg_inherits as inherits on inherits.inhrelid = child.oid
where child.relkind = 'r' and child.relnamespace = 'public'::regnamespace
    and child.relname ~ ('^' || :table || '_[0-9]{8}$')
order by name
""")

_REMEMBER = text("""
insert into expirations as known (kind, tenant, before) values (:kind, :tenant, :before)
on conflict (kind, tenant) do update set before = greatest(known.before, excluded.before)
""")


# A tenant that had times of its own, and has them no longer.
_FOLLOW = text("""
update expirations set before = greatest(before, :before) where kind = :kind and tenant <> all(:named)
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Keeping:
    """For how many days of event time rows of one kind are kept.

    Attributes:
        days: of every tenant that is not named.
        tenants: of those that are.
    """

    days: int
    tenants: Mapping[str, int] = field(default_factory=dict)

    @property
    def longest(self) -> int:
        """After so many days nobody keeps a row."""
        return max((self.days, *self.tenants.values()))


@dataclass(kw_only=True, slots=True)
class Expired:
    """What went.

    Attributes:
        partitions: dropped, by name.
        rows: deleted one by one, by table.
        given_up: escalations that waited for the pool for longer than their text is kept.
    """

    partitions: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    given_up: int = 0


def expire(engine: Engine, keeping: Mapping[str, Keeping], *, now: datetime, dry_run: bool = False) -> Expired | None:
    """Take away what is kept no longer; None when another process is at it.

    Args:
        engine: of the ledger.
        keeping: by kind, a key of `TABLES`.
        now: aware.
        dry_run: say what would be dropped, and count nothing of what would be deleted.

    Raises:
        LedgerUnavailable: Postgres is away, or a reader of an old day held a partition for too long. What is done is
            done; call again.
    """
    gone = Expired()
    with driver_errors(), engine.connect() as connection:
        steady = connection.execution_options(isolation_level="AUTOCOMMIT")
        if not steady.execute(text(_LOCK)).scalar_one():
            return None
        try:
            for kind, kept in keeping.items():
                gone.given_up += _give_up(engine, kept, now=now, dry_run=dry_run)
                _expire_kind(engine, steady, kind, kept, today=now.astimezone(UTC).date(), gone=gone, dry_run=dry_run)
        finally:
            steady.execute(text("select pg_advisory_unlock_all()"))
    return gone


def _give_up(engine: Engine, kept: Keeping, *, now: datetime, dry_run: bool) -> int:
    given_up = 0
    tenant = escalations.c.tenant
    whose: dict[int, list[ColumnElement[bool]]] = {kept.days: [tenant.not_in(kept.tenants)]}
    for name, days in kept.tenants.items():
        whose.setdefault(days, []).append(tenant == name)
    for days, tenants in whose.items():
        before = datetime.combine(now.astimezone(UTC).date() - timedelta(days=days), datetime.min.time(), UTC)
        if dry_run:
            given_up += count_expired(engine, before=before, tenants=or_(*tenants))
        else:
            given_up += give_up_expired(engine, before=before, tenants=or_(*tenants), at=now)
    return given_up


def _expire_kind(
    engine: Engine, steady: Connection, kind: str, kept: Keeping, *, today: date, gone: Expired, dry_run: bool
) -> None:
    first_kept = today - timedelta(days=kept.longest)
    limits = {_EVERYBODY: kept.days, **kept.tenants}
    if not dry_run:
        with transaction(engine) as connection:
            for tenant, days in limits.items():
                before = datetime.combine(today - timedelta(days=days), datetime.min.time(), UTC)
                connection.execute(_REMEMBER, {"kind": kind, "tenant": tenant, "before": before})
            before = datetime.combine(today - timedelta(days=kept.days), datetime.min.time(), UTC)
            connection.execute(_FOLLOW, {"kind": kind, "named": list(limits), "before": before})
    for table in TABLES[kind]:
        for name in _old_partitions(steady, table, first_kept):
            gone.partitions.append(name)
            if not dry_run:
                _drop(steady, table, name)
        if not dry_run:
            gone.rows[table] = sum(_delete(engine, steady, table, kept, today=today))


def _old_partitions(steady: Connection, table: str, first_kept: date) -> list[str]:
    found = steady.execute(_PARTITIONS, {"table": table}).all()
    return [row.name for row in found if _day_of(row.name) < first_kept or row.pending or not row.attached]


def _day_of(partition: str) -> date:
    return datetime.strptime(partition[-8:], "%Y%m%d").replace(tzinfo=UTC).date()


def _drop(steady: Connection, table: str, name: str) -> None:
    """Detach and drop; takes up what an earlier call was stopped in."""
    row = next(one for one in steady.execute(_PARTITIONS, {"table": table}) if one.name == name)
    if row.attached:
        # A name from the catalogue, of digits and our own words.
        how = "finalize" if row.pending else "concurrently"
        steady.execute(text(f"alter table {table} detach partition {name} {how}"))
    steady.execute(text(f"drop table {name}"))
    logger.info("a day was dropped", extra={"partition": name})


def _delete(engine: Engine, steady: Connection, table: str, kept: Keeping, *, today: date) -> Iterator[int]:
    """Rows of days that are kept for others, and of the time before the first day: a day after another, in batches."""
    named = sorted(kept.tenants)
    days = [row.name for row in steady.execute(_PARTITIONS, {"table": table}) if row.attached]
    for tenant, limit in ((_EVERYBODY, kept.days), *kept.tenants.items()):
        first_kept = today - timedelta(days=limit)
        whose = "<> all(:tenants)" if tenant == _EVERYBODY else "= any(:tenants)"
        asked = {
            "before": datetime.combine(first_kept, datetime.min.time(), UTC),
            "tenants": named if tenant == _EVERYBODY else [tenant],
        }
        old = f"event_time < :before and {_OF_TENANT[table]} {whose}{_CLOSING[table]}"
        for name in (f"{table}_before", *(day for day in days if _day_of(day) < first_kept)):
            statement = text(
                f"delete from {name} where ctid in (select ctid from {name} where {old} limit {_BATCH})"  # noqa: S608 - names from the catalogue
            )
            yield from _batches(engine, statement, asked)


def _batches(engine: Engine, statement: TextClause, asked: Mapping[str, object]) -> Iterator[int]:
    deleted = _BATCH
    while deleted == _BATCH:
        with transaction(engine) as connection:
            deleted = connection.execute(statement, asked).rowcount
        yield deleted
