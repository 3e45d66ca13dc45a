"""Days of event time as partitions: which there are, and taking one away without making those wait who use others."""

import logging
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from sqlalchemy import Connection, text

from monitor.storage.engine import driver_errors

logger = logging.getLogger(__name__)

_PARTITIONS = text("""
select child.relname as name, inherits.inhrelid is not null as attached, coalesce(inhdetachpending, false) as pending
from pg_class as child
left join pg_inherits as inherits on inherits.inhrelid = child.oid
where child.relkind = 'r' and child.relnamespace = 'public'::regnamespace
    and child.relname ~ ('^' || :table || '_[0-9]{8}$')
order by name
""")

# Whoever makes a day needs the lock that is held while a detachment is finished and old readers are waited for.
_FINISH_SECONDS: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """A day's partition of one table.

    Attributes:
        attached: that it is one; else it was detached, and is a table of its own.
        pending: that somebody was stopped while detaching it.
    """

    table: str
    name: str
    day: date
    attached: bool
    pending: bool


def days_of(connection: Connection, table: str) -> list[Day]:
    """All that there are, in order."""
    return [
        Day(table=table, name=row.name, day=_day_of(row.name), attached=row.attached, pending=row.pending)
        for row in connection.execute(_PARTITIONS, {"table": table})
    ]


def drop_day(steady: Connection, day: Day) -> None:
    """Detach and drop; takes up what an earlier call was stopped in.

    Args:
        steady: a connection that commits by itself.
        day: as `days_of` found it.

    Raises:
        LedgerBusy: a reader held it for too long, or somebody else is detaching a day of this table; call again.
        LedgerUnavailable: Postgres is away, or this user may not.
    """
    # Names from the catalogue, of digits and our own words.
    with driver_errors():
        if day.pending:
            steady.execute(text(f"set lock_timeout = '{_FINISH_SECONDS}s'"))
            try:
                steady.execute(text(f"alter table {day.table} detach partition {day.name} finalize"))
            finally:
                _reset(steady, "lock_timeout")
        elif day.attached:
            # It waits for all transactions that have touched the table, be it for hours, and holds no lock meanwhile.
            # Cut short by a timeout it would leave a day that is neither there nor gone.
            steady.execute(text("set statement_timeout = 0"))
            try:
                steady.execute(text(f"alter table {day.table} detach partition {day.name} concurrently"))
            finally:
                _reset(steady, "statement_timeout")
        steady.execute(text(f"drop table {day.name}"))
    logger.info("a day was dropped", extra={"partition": day.name})


def _reset(steady: Connection, setting: str) -> None:
    if not steady.invalidated:
        steady.execute(text(f"reset {setting}"))


def _day_of(partition: str) -> date:
    return datetime.strptime(partition[-8:], "%Y%m%d").replace(tzinfo=UTC).date()
