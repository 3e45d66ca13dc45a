"""Summing up what the pool said of each hour, so that rates and skills are read from sums.

A sum is dropped by the transaction that adds a word of the pool to its hour (a trigger of `rollups`, migration 0018),
and made anew here. Without one, an hour's words are read one by one: as exact, and slower.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, text

from monitor.storage.engine import transaction

_BEGINNING = datetime.min.replace(tzinfo=UTC)
_KEY = ("tenant", "service", "environment", "evaluator", "judge_version", "hour")
_HOUR = timedelta(hours=1)
# The trigger takes the same lock shared; migration 0018 says what for.
_LOCK = 0x72617465

_MISSING = f"""
select distinct s.hour from segment_hours as s
where s.hour >= :since and s.hour <= :last and not exists (
    select from trusted_hours as known
    where {" and ".join(f"known.{name} = s.{name}" for name in _KEY)}
)
order by s.hour desc
"""  # noqa: S608 - constants are put in

_ALONE = "select pg_try_advisory_xact_lock(:lock, (extract(epoch from cast(:hour as timestamptz)) / 3600)::integer)"

# All four kinds of each hour, also where there was none: that they are there says that the hour is summed up.
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
where s.hour = :hour
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
        connection.execute(text(_SUM_UP), {"hour": hour, "until": hour + _HOUR})
    return True
