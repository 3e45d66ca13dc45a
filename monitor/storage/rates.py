"""What rates are made from, summed where the verdicts are: no trace leaves Postgres for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine, RowMapping, func, select, text

from monitor.domain.trace import Segment
from monitor.drift.corrected import Share
from monitor.drift.powered import Sums
from monitor.storage.engine import snapshot
from monitor.storage.tables import rollups


class Bucket(StrEnum):
    """What a window is divided into."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """One segment's traces under one judge version in one bucket of event time.

    Only traces with a verdict of the local cascade count: that is the word that a rate is corrected for. The trusted
    word is the pool's.

    Attributes:
        start: of the bucket; None where the window is not divided.
        newest: event time of the last of them.
        judged: verdicts, and hallucinated ones among them.
        unreachable: traces that the policy could never have sent to the pool.
        sums: for the prediction-powered rate.
        sensitivity, specificity: of the local cascade by the pool's word, each trace weighed by the inverse of the
            probability with which it was sent there; effective numbers (Kish).
    """

    segment: Segment
    evaluator: str
    judge_version: str
    start: datetime | None
    newest: datetime
    judged: Share
    unreachable: int
    sums: Sums
    sensitivity: Share
    specificity: Share


_TERMS = ("a", "b", "c")
_PRODUCTS = tuple(one + other for place, one in enumerate(_TERMS) for other in _TERMS[place:])

_QUERY = f"""
with words as (
    select
        v.tenant, v.service, v.environment, v.evaluator, v.judge_version,
        case when cast(:bucket as text) is null then null
            else date_trunc(cast(:bucket as text), v.event_time, 'UTC') end as start,
        case when v.first_label = 'hallucinated' then 1 else 0 end::double precision as f,
        v.event_time, v.inclusion_probability as chance,
        pool.y
    from verdicts as v
    left join lateral (
        select case when coalesce(said.probability >= 0.5, said.raw_score > 0) then 1 else 0 end::double precision as y
        from judgements as said
        join judges using (judge)
        where v.action = 'escalate' and v.inclusion_probability > 0
            and said.tenant = v.tenant and said.trace_id = v.trace_id
            and said.evaluator = v.evaluator and said.judge_version = v.judge_version
            and judges.tier = 'pool' and said.reason is null
        order by said.sequence desc
        limit 1
    ) as pool on true
    where v.event_time >= :since and v.event_time < :until and v.first_label is not null
        and (cast(:tenant as text) is null or v.tenant = :tenant)
        and (cast(:service as text) is null or v.service = :service)
        and (not cast(:audited_only as boolean) or v.action = 'escalate')
), weighed as (
    select *, case when y is null then 0 else 1 / chance end as w from words
), terms as (
    select *, w * coalesce(y, 0) as a, f * (1 - w) as b, 1 - w as c from weighed
)
select
    tenant, service, environment, evaluator, judge_version, start,
    max(event_time) as newest,
    count(*) as n, count(y) as audits, sum(f) as hits, count(*) filter (where chance = 0) as unreachable,
    {", ".join(f"sum({name}) as {name}" for name in _TERMS)},
    {", ".join(f"sum({name[0]} * {name[1]}) as {name}" for name in _PRODUCTS)},
    coalesce(sum(w) filter (where y = 1), 0) as positives,
    coalesce(sum(w * w) filter (where y = 1), 0) as positive_squares,
    coalesce(sum(w * f) filter (where y = 1), 0) as found,
    coalesce(sum(w) filter (where y = 0), 0) as negatives,
    coalesce(sum(w * w) filter (where y = 0), 0) as negative_squares,
    coalesce(sum(w * (1 - f)) filter (where y = 0), 0) as passed
from terms
group by tenant, service, environment, evaluator, judge_version, start
order by tenant, service, environment, evaluator, judge_version, start
"""  # noqa: S608 - only names from above are put in


def count_rates(
    engine: Engine,
    *,
    since: datetime,
    until: datetime,
    bucket: Bucket | None = None,
    tenant: str | None = None,
    service: str | None = None,
) -> list[Counted]:
    """Sum up the traces with an event time in [since, until), by segment, evaluator and judge version.

    Raises:
        LedgerUnavailable: Postgres is away, not migrated, or took longer than the statement timeout.
    """
    return _sum_up(engine, since=since, until=until, bucket=bucket, tenant=tenant, service=service, audited_only=False)


def count_audited(
    engine: Engine, *, since: datetime, until: datetime, tenant: str | None = None, service: str | None = None
) -> list[Counted]:
    """Sum up those of the traces that were sent to the pool: for sensitivity and specificity, without reading the rest.

    Raises:
        LedgerUnavailable: Postgres is away, not migrated, or took longer than the statement timeout.
    """
    return _sum_up(engine, since=since, until=until, bucket=None, tenant=tenant, service=service, audited_only=True)


def _sum_up(engine: Engine, **asked: Any) -> list[Counted]:
    with snapshot(engine) as connection:
        return [_counted(row) for row in connection.execute(text(_QUERY), asked).mappings()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """What became of the traces of one segment under one judge version.

    Attributes:
        traces: judged, or tried to.
        verdicts: those that have one now.
        escalated: those that were sent to the pool.
        newest: event time of the last of them.
    """

    segment: Segment
    traces: int
    verdicts: int
    escalated: int
    newest: datetime


def count_coverage(engine: Engine, *, since: datetime, until: datetime) -> list[Coverage]:
    """Count the traces with an event time in [since, until), in whole minutes, by segment and judge version.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    of = rollups.c
    key = (of.tenant, of.service, of.environment, of.evaluator, of.judge_version)
    sums = [func.sum(of[name]).label(name) for name in ("traces", "total", "escalated")]
    newest = func.max(of.last_event_time).label("newest")
    query = select(*key, *sums, newest).where(of.minute >= since, of.minute < until).group_by(*key)
    with snapshot(engine) as connection:
        return [
            Coverage(
                segment=Segment(tenant=row.tenant, service=row.service, environment=row.environment),
                traces=int(row.traces),
                verdicts=int(row.total),
                escalated=int(row.escalated),
                newest=row.newest,
            )
            for row in connection.execute(query)
        ]


def _counted(row: RowMapping) -> Counted:
    return Counted(
        segment=Segment(tenant=row["tenant"], service=row["service"], environment=row["environment"]),
        evaluator=row["evaluator"],
        judge_version=row["judge_version"],
        start=row["start"],
        newest=row["newest"],
        judged=Share(hits=row["hits"], n=row["n"]),
        unreachable=row["unreachable"],
        sums=Sums(n=row["n"], audits=row["audits"], **_named(row, (*_TERMS, *_PRODUCTS))),
        sensitivity=_effective(row["found"], row["positives"], row["positive_squares"]),
        specificity=_effective(row["passed"], row["negatives"], row["negative_squares"]),
    )


def _named(row: RowMapping, names: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _effective(hits: float, weights: float, squares: float) -> Share:
    if not squares:
        return Share(hits=0, n=0)
    n = weights**2 / squares
    return Share(hits=min(n, n * hits / weights), n=n)
