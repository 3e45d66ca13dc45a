"""Summing up what the pool said of each hour, so that rates and skills are read from sums.

A sum is dropped by the transaction that adds a word of the pool to its hour (a trigger of `rollups`, migration 0018),
and made anew here. Without one, an hour's words are read one by one: as exact, and slower.

What retention has promised to take away is summed up once more, and its sum stays: there will be no rows to make it
anew from (`sum_up_for_good`). All other sums here leave such hours alone.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, text

from monitor.storage.engine import LedgerBusy, transaction
from monitor.storage.expirations import Scope

logger = logging.getLogger(__name__)

_BEGINNING = datetime.min.replace(tzinfo=UTC)
_KEY = ("tenant", "service", "environment", "evaluator", "judge_version", "hour")
_HOUR = timedelta(hours=1)
# The trigger takes the same lock shared; migration 0018 says what for.
_LOCK = 0x72617465

# Whose verdicts retention has not promised to take away. The trigger goes by the same (migration 0022).
_KEPT = """s.hour >= coalesce(
        (select before from expirations where kind = 'verdicts' and expirations.tenant = s.tenant),
        (select before from expirations where kind = 'verdicts' and expirations.tenant = '*'),
        '-infinity'
    )"""

_UNKNOWN = f"""not exists (
        select from trusted_hours as known
        where {" and ".join(f"known.{name} = s.{name}" for name in _KEY)}
    )"""

_MISSING = f"""
select distinct s.hour from segment_hours as s
where s.hour >= :since and s.hour <= :last and {_KEPT} and {_UNKNOWN}
order by s.hour desc
"""  # noqa: S608 - constants are put in

_PATIENCE = "select set_config('lock_timeout', '5s', true), set_config('statement_timeout', '10min', true)"
_WAIT = "select pg_advisory_xact_lock(:lock, (extract(epoch from cast(:hour as timestamptz)) / 3600)::integer)"
_ALONE = "select pg_try_advisory_xact_lock(:lock, (extract(epoch from cast(:hour as timestamptz)) / 3600)::integer)"

# All four kinds of each hour, also where there was none: that they are there says that the hour is summed up.
# Which segments is put in.
_SUM_UP = f"""
insert into trusted_hours ({", ".join(_KEY)}, said, truth, n, wx, qx, qxx)
select
    {", ".join(f"s.{name}" for name in _KEY)}, kind.said, kind.truth,
    coalesce(found.n, 0), coalesce(found.wx, 0), coalesce(found.qx, 0), coalesce(found.qxx, 0)
from segment_hours as s
cross join (values (true, true), (true, false), (false, true), (false, false)) as kind (said, truth)
left join rate_trusted_rows(:hour, :until, null, null, null, 'pool') as found
    on {" and ".join(f"found.{name} = s.{name}" for name in _KEY[:-1])}
    and found.said = kind.said and found.truth = kind.truth
where s.hour = :hour and {{which}}
order by {", ".join(f"s.{name}" for name in _KEY)}, kind.said, kind.truth
on conflict do nothing
"""  # noqa: S608 - constants are put in


def sum_up_trusted(engine: Engine, *, until: datetime, since: datetime | None = None) -> int:
    """Sum up the hours that have no sum, the newest first, one transaction each. May be repeated.

    An hour that somebody is adding a word to is left for the next time: nobody waits.

    Args:
        engine: of the ledger.
        until: only hours that end by then.
        since: only hours that begin from then on; None for all.

    Returns:
        Hours summed up.

    Raises:
        LedgerUnavailable: Postgres is away, not migrated, or took longer than the statement timeout.
    """
    with transaction(engine) as connection:
        asked = {"since": since or _BEGINNING, "last": until - _HOUR}
        hours = connection.execute(text(_MISSING), asked).scalars().all()
    return sum(_sum_up(engine, hour) for hour in hours)


def _sum_up(engine: Engine, hour: datetime) -> bool:
    with transaction(engine) as connection:
        if not connection.execute(text(_ALONE), {"lock": _LOCK, "hour": hour}).scalar_one():
            return False
        connection.execute(text(_SUM_UP.format(which=_KEPT)), {"hour": hour, "until": hour + _HOUR})
    return True


def sum_up_for_good(engine: Engine, scope: Scope) -> datetime:
    """Sum up each hour whose verdicts have to go, the oldest first, one transaction each. May be repeated.

    That they go is promised: a word of the pool that comes after an hour's sum changes it no more, and one that is
    being added at this moment is waited for. Hence an hour that has its sum is taken, too.

    Args:
        engine: of the ledger.
        scope: promised, of kind `verdicts`.

    Returns:
        Up to when all hours have their sums: the end of what has to go, or the first hour that could not be had.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    hours = f"""
    select distinct s.hour from segment_hours as s
    where s.hour >= :done and s.hour < :before and {scope.whose("s.tenant")}
    order by s.hour
    """  # noqa: S608 - constants are put in
    with transaction(engine) as connection:
        found: Sequence[datetime] = connection.execute(text(hours), scope.asked).scalars().all()
    for hour in found:
        try:
            with transaction(engine) as connection:
                _sum_up_alone(connection, scope, hour)
        except LedgerBusy as busy:
            logger.warning("an hour's verdicts stay: it has no sum yet", extra={"hour": hour, "error": str(busy)})
            return hour
    return scope.through


def _sum_up_alone(connection: Connection, scope: Scope, hour: datetime) -> None:
    asked = scope.asked | {"hour": hour, "until": hour + _HOUR, "lock": _LOCK}
    which = f"{scope.whose('s.tenant')} and {_UNKNOWN}"
    connection.execute(text(_PATIENCE))
    connection.execute(text(_WAIT), asked)
    # A statement of its own: it sees what was waited for. What is put in are constants; values are bound.
    missing = f"select exists (select from segment_hours as s where s.hour = :hour and {which})"  # noqa: S608 - see above
    if connection.execute(text(missing), asked).scalar_one():
        connection.execute(text(_SUM_UP.format(which=which)), asked)
