"""What rates are made from, summed where the verdicts are: no trace leaves Postgres for it."""

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


class Trust(StrEnum):
    """Whose word on some of the answers is taken for the truth."""

    POOL = "pool"
    PEOPLE = "people"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """One segment's traces under one judge version in one bucket of event time.

    Only traces with a verdict of the local cascade count: that is the word that a rate is corrected for.

    Attributes:
        start: of the bucket; None where the window is not divided.
        newest: event time of the last of them.
        verdicts: of the local cascade.
        estimated_verdicts: that there would be had every trace been kept: the sum of 1 / sampling probability.
        judged: verdicts, and hallucinated ones among them, each weighed by the inverse of its sampling probability;
            effective numbers (Kish), which are the counts where that is the same for all.
        unreachable: traces on which there could have been no trusted word.
        sums: for the prediction-powered rate.
        sensitivity, specificity: of the local cascade by the trusted word, each trace weighed by the inverse of its
            chance to get one and to be sampled; effective numbers (Kish).
    """

    segment: Segment
    evaluator: str
    judge_version: str
    start: datetime | None
    newest: datetime
    verdicts: int
    estimated_verdicts: float
    judged: Share
    unreachable: int
    sums: Sums
    sensitivity: Share
    specificity: Share


_TERMS = ("a", "b", "c")
_PRODUCTS = tuple(one + other for place, one in enumerate(_TERMS) for other in _TERMS[place:])
_SUMMED = ("n", "audits", "weights", "squares", *_TERMS, *(f"q{term}" for term in _TERMS), *_PRODUCTS)

_TOTALS = text("select * from rate_totals(:since, :until, :bucket, :tenant, :service, :trust)")
_SKILLS = text("select * from rate_skills(:since, :until, :tenant, :service, :trust)")


def count_rates(
    engine: Engine,
    *,
    since: datetime,
    until: datetime,
    bucket: Bucket | None = None,
    tenant: str | None = None,
    service: str | None = None,
    trust: Trust = Trust.POOL,
) -> list[Counted]:
    """Sum up the traces with an event time in [since, until), by segment, evaluator and judge version, in that order.

    Read from rollups; from verdicts only what has a trusted word, and minutes that the window cuts.

    Raises:
        LedgerUnavailable: Postgres is away, not migrated, or took longer than the statement timeout.
    """
    asked = {"since": since, "until": until, "bucket": bucket, "tenant": tenant, "service": service, "trust": trust}
    with snapshot(engine) as connection:
        return [_counted(row) for row in connection.execute(_TOTALS, asked).mappings()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Skill:
    """How well the local cascade of one segment and judge version does, by the trusted word.

    Attributes:
        sensitivity, specificity: each trace weighed by the inverse of its chance to get a trusted word and to be
            sampled; effective numbers (Kish).
    """

    segment: Segment
    evaluator: str
    judge_version: str
    sensitivity: Share
    specificity: Share


def count_skills(
    engine: Engine,
    *,
    since: datetime,
    until: datetime,
    tenant: str | None = None,
    service: str | None = None,
    trust: Trust = Trust.POOL,
) -> list[Skill]:
    """Sum up those of the traces with an event time in [since, until) that have a trusted word.

    Raises:
        LedgerUnavailable: Postgres is away, not migrated, or took longer than the statement timeout.
    """
    asked = {"since": since, "until": until, "tenant": tenant, "service": service, "trust": trust}
    with snapshot(engine) as connection:
        return [Skill(**_whose(row), **_skill(row)) for row in connection.execute(_SKILLS, asked).mappings()]


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
        **_whose(row),
        **_skill(row),
        start=row["start"],
        newest=row["newest"],
        verdicts=row["n"],
        estimated_verdicts=row["weights"],
        judged=_effective(row["hits"], row["weights"], row["squares"]),
        unreachable=row["unreachable"],
        sums=Sums(**{name: row[name] for name in _SUMMED}),
    )


def _whose(row: RowMapping) -> dict[str, Any]:
    segment = Segment(tenant=row["tenant"], service=row["service"], environment=row["environment"])
    return {"segment": segment, "evaluator": row["evaluator"], "judge_version": row["judge_version"]}


def _skill(row: RowMapping) -> dict[str, Any]:
    return {
        "sensitivity": _effective(row["found"], row["positives"], row["positive_squares"]),
        "specificity": _effective(row["passed"], row["negatives"], row["negative_squares"]),
    }


def _effective(hits: float, weights: float, squares: float) -> Share:
    if not squares:
        return Share(hits=0, n=0)
    n = weights**2 / squares
    return Share(hits=min(n, weights * hits / squares), n=n)
