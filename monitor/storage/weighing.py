"""Making good what a release before this one left out of rollups: the weights of its first verdicts.

Rates read such minutes from their verdicts until then (`first_weighed <> first_total`): as exact, and slower.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Engine, text

from monitor.storage.engine import retry_conflicts, transaction

_KEY = ("tenant", "service", "environment", "evaluator", "judge_version", "minute")

FIRST_SUMS: Mapping[str, str] = {
    "first_weighed": "count(first_label)",
    "first_unreachable": "count(*) filter (where first_label is not null and inclusion_probability = 0)",
    "first_weight": "coalesce(sum(w) filter (where first_label is not null), 0)",
    "first_weight_squares": "coalesce(sum(w * w) filter (where first_label is not null), 0)",
    "first_hallucinated_weight": "coalesce(sum(w) filter (where first_label = 'hallucinated'), 0)",
    "first_hallucinated_weight_squares": "coalesce(sum(w * w) filter (where first_label = 'hallucinated'), 0)",
    "first_last_event_time": "max(event_time) filter (where first_label is not null)",
}
"""Columns of rollups that rates are made from, each with what it is over `verdicts` and `WEIGHT`."""

WEIGHT = "cross join lateral (select (1 / sampling_probability)::numeric as w) as stands"
"""Beside a verdict: for how many traces it stands, as exact as the probability is given."""

_BEGINNING = datetime.min.replace(tzinfo=UTC)
_HOURS = """
select distinct date_trunc('hour', minute, 'UTC') as hour from rollups
where first_weighed <> first_total and minute >= :since
order by hour desc
"""

# Locked before they are summed: a statement of its own sees every verdict that is counted in a row that it has.
_LOCK = f"""
select from rollups
where first_weighed <> first_total and minute >= :hour and minute < :until
order by {", ".join(_KEY)}
for update
"""

_WEIGH = f"""
update rollups as kept
set {", ".join(f"{name} = summed.{name}" for name in FIRST_SUMS)}, changed = pg_current_xact_id()
from (
    select
        tenant, service, environment, evaluator, judge_version, date_trunc('minute', event_time, 'UTC') as minute,
        {", ".join(f"{made} as {name}" for name, made in FIRST_SUMS.items())}
    from verdicts
    {WEIGHT}
    where event_time >= :hour and event_time < :until and replay_id is null
    group by 1, 2, 3, 4, 5, 6
) as summed
where kept.minute >= :hour and kept.minute < :until
    and kept.first_weighed <> kept.first_total and kept.first_total = summed.first_weighed
    and {" and ".join(f"kept.{name} = summed.{name}" for name in _KEY)}
"""  # noqa: S608 - constants are put in


def weigh_rollups(engine: Engine, *, since: datetime | None = None) -> int:
    """Weigh what is not weighed yet, the newest first, one transaction an hour of event time. May be repeated.

    Minutes whose verdicts are gone in part stay as they are.

    Args:
        engine: of the ledger.
        since: only minutes from then on; None for all.

    Returns:
        Minutes, of one segment each, that were made good.

    Raises:
        LedgerUnavailable: Postgres is away, not migrated, or took longer than the statement timeout.
    """
    with transaction(engine) as connection:
        hours = connection.execute(text(_HOURS), {"since": since or _BEGINNING}).scalars().all()
    return sum(retry_conflicts(partial(_weigh, engine, hour)) for hour in hours)


def _weigh(engine: Engine, hour: datetime) -> int:
    asked = {"hour": hour, "until": hour + timedelta(hours=1)}
    with transaction(engine) as connection:
        connection.execute(text(_LOCK), asked)
        return connection.execute(text(_WEIGH), asked).rowcount
