"""The verdict history as it leaves Postgres: hours of event time that changed, and their rows as CSV.

Every change of a verdict changes its minute's rollup in the same transaction, and the rollup keeps that transaction's
id. Ids are given out in order but committed in any: what is below the *xmin* of a snapshot has ended, and is seen by
it. So a reader who has all that his snapshot shows needs, later, only the hours with a change at or above that xmin:
no change is missed, however long its transaction took.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, text

from monitor.domain.errors import LedgerUnavailable
from monitor.storage.engine import driver_errors, snapshot
from monitor.storage.export_queries import QUERIES

# Of one hour's rows of one dataset, written to disk while they come: longer than what any worker may ask for.
_LONGEST: Final = timedelta(minutes=30)

# A restored dump brings ids of the cluster that it was made in, which this one has not given out yet.
_KNOWN = "changed < pg_snapshot_xmax(pg_current_snapshot())"

_CHANGED = text(
    f"""
    select date_trunc('hour', minute, 'UTC') as hour, max(changed)::text::bigint as changed
    from rollups
    where changed >= cast(cast(:watermark as text) as xid8) and (:watermark = 0 or {_KNOWN})
        and (cast(:since as timestamptz) is null or minute >= :since)
        and (cast(:tenant as text) is null or tenant = :tenant)
    group by 1
    order by 1
    """  # noqa: S608 - a constant is put in
)

# Rollups outlive the verdicts that they count: only `expirations` tells which hours retention has been at.
_COUNTED = text(
    f"""
    select
        date_trunc('hour', minute, 'UTC') as hour,
        coalesce(max(changed) filter (where {_KNOWN}), '0')::text::bigint as changed,
        sum(traces)::bigint as traces, sum(total)::bigint as verdicts, sum(hallucinated)::bigint as hallucinated,
        coalesce(bool_or(minute < coalesce(
            verdicts.before, (select before from expirations where kind = 'verdicts' and tenant = '*')
        )), false) as verdicts_expire,
        coalesce(bool_or(minute < coalesce(
            texts.before, (select before from expirations where kind = 'payloads' and tenant = '*')
        )), false) as texts_expire
    from rollups
    left join expirations as verdicts on verdicts.kind = 'verdicts' and verdicts.tenant = rollups.tenant
    left join expirations as texts on texts.kind = 'payloads' and texts.tenant = rollups.tenant
    where (cast(:since as timestamptz) is null or minute >= :since)
        and (cast(:until as timestamptz) is null or minute < :until)
        and (cast(:tenant as text) is null or rollups.tenant = :tenant)
    group by 1
    order by 1
    """  # noqa: S608 - a constant is put in
)

_IDENTITY = text(
    """
    select
        (select system_identifier::text from pg_control_system()) as system,
        current_database() as database,
        (select oid::bigint from pg_database where datname = current_database()) as oid,
        (select timeline_id from pg_control_checkpoint()) as timeline
    """
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerIdentity:
    """Which ledger this is.

    Attributes:
        system: identifier of the Postgres cluster.
        database, oid: of the ledger.
        timeline: rises with each failover and restore; transaction ids of different timelines do not compare.
    """

    system: str
    database: str
    oid: int
    timeline: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedHour:
    """An hour of event time, and the last transaction that changed a count in it."""

    hour: datetime
    changed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedHour:
    """An hour as the rollups count it: traces, those with a verdict, hallucinated ones among these.

    Attributes:
        verdicts_expire, texts_expire: retention has been at it, for a tenant at least, so that rows may be fewer.
    """

    hour: datetime
    changed: int
    traces: int
    verdicts: int
    hallucinated: int
    verdicts_expire: bool
    texts_expire: bool


class HistorySnapshot:
    """The history as of one instant; see `history_snapshot`.

    Attributes:
        watermark: transactions with a lower id have ended, and what they did is in it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # The first statement of a repeatable read takes the snapshot, and this tells of the very same.
        query = text("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        self.watermark = int(connection.execute(query).scalar_one())

    def changed_hours(self, watermark: int, *, since: datetime | None, tenant: str | None) -> Sequence[ChangedHour]:
        """Hours that transactions from `watermark` on have changed, in order. Reads the rollups whole."""
        asked = {"watermark": watermark, "since": since, "tenant": tenant}
        return [ChangedHour(hour=row.hour, changed=row.changed) for row in self._connection.execute(_CHANGED, asked)]

    def counted_hours(
        self, *, since: datetime | None, tenant: str | None, until: datetime | None = None
    ) -> Sequence[CountedHour]:
        """Every hour's counts, in order; up to `until`, where that is given."""
        asked = {"since": since, "until": until, "tenant": tenant}
        return [CountedHour(**row) for row in self._connection.execute(_COUNTED, asked).mappings()]

    def rows(self, dataset: str, hour: datetime, *, tenant: str | None) -> Iterator[Any]:
        """One hour's rows as CSV, one row an item, as they come: none is held.

        Args:
            dataset: verdicts, judgements, rollups or texts.
            hour: its beginning.
            tenant: whose; None for all.
        """
        driver = self._connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        asked = {"since": hour, "tenant": tenant}
        statement = f"copy ({QUERIES[dataset]}) to stdout (format csv, encoding 'UTF8')"
        with driver.cursor() as cursor, cursor.copy(statement, asked) as copy:
            # Postgres' protocol: each message is one row.
            yield from copy


@contextmanager
def history_snapshot(engine: Engine) -> Iterator[HistorySnapshot]:
    """The history as of one instant, for as long as the block lasts: meanwhile Postgres clears no dead rows away.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated, or hides some tenants' rows from this user.
    """
    # COPY is the driver's own: its errors come past SQLAlchemy.
    with driver_errors(), snapshot(engine) as connection:
        connection.execute(text(f"set local statement_timeout = {_LONGEST // timedelta(milliseconds=1)}"))
        # Row-level security would leave out rows and say nothing: a part of the history would pass for the whole.
        if not connection.scalar(text("select every from own_tenants")):
            raise LedgerUnavailable(
                "the user of postgres.url sees the rows of some tenants only: export as the tables' owner, or as a "
                "worker of all tenants"
            )
        yield HistorySnapshot(connection)


def identify(engine: Engine) -> LedgerIdentity:
    """Which ledger the engine leads to.

    Raises:
        LedgerUnavailable: Postgres is away.
    """
    with snapshot(engine) as connection:
        return LedgerIdentity(**connection.execute(_IDENTITY).mappings().one())
