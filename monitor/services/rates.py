"""Rates of hallucinated answers, each with its interval or the reason why there is none."""

from dataclasses import dataclass
from datetime import datetime

from monitor.domain.rate import NoRate, Rate, wilson
from monitor.domain.trace import Segment
from monitor.drift.corrected import Share, corrected_rate
from monitor.drift.powered import powered_rate
from monitor.storage.engine import LedgerEngine
from monitor.storage.rates import Bucket, Counted, Skill, Trust, count_rates, count_skills


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRates:
    """One segment under one judge version, in one bucket of event time.

    Attributes:
        start: of the bucket; None for the whole window.
        newest: event time of the last verdict.
        verdicts: of the local cascade.
        estimated_verdicts: that there would be had every trace been kept.
        audits: those of its traces on which there is a trusted word.
        raw: as the local cascade said.
        corrected: for its errors, as the trusted word shows them.
        powered: as whoever is trusted would say.
    """

    segment: Segment
    evaluator: str
    judge_version: str
    start: datetime | None
    newest: datetime
    verdicts: int
    estimated_verdicts: float
    audits: int
    raw: Rate
    corrected: Rate | NoRate
    powered: Rate | NoRate


def segment_rates(
    engine: LedgerEngine,
    *,
    since: datetime,
    until: datetime,
    skill_since: datetime,
    bucket: Bucket | None = None,
    tenant: str | None = None,
    service: str | None = None,
    trust: Trust = Trust.POOL,
) -> list[SegmentRates]:
    """All three rates of each segment.

    Args:
        engine: of the ledger.
        since: beginning of the window of event time.
        until: its end, exclusive.
        skill_since: the local cascade's sensitivity and specificity are taken from the trusted word since then.
        bucket: divide the window into these.
        tenant: only this one's.
        service: only this one's.
        trust: whose word is taken for the truth.

    Raises:
        LedgerUnavailable: Postgres is away, not migrated, or took longer than the statement timeout.
    """
    known = count_skills(engine, since=skill_since, until=until, tenant=tenant, service=service, trust=trust)
    skills = {_key(one): (one.sensitivity, one.specificity) for one in known}
    counted = count_rates(engine, since=since, until=until, bucket=bucket, tenant=tenant, service=service, trust=trust)
    unknown = (Share(hits=0, n=0), Share(hits=0, n=0))
    return [_rates(one, *skills.get(_key(one), unknown), trust=trust) for one in counted]


def _key(one: Counted | Skill) -> tuple[Segment, str, str]:
    return one.segment, one.evaluator, one.judge_version


def _rates(one: Counted, sensitivity: Share, specificity: Share, *, trust: Trust) -> SegmentRates:
    raw = wilson(one.judged.hits, one.judged.n)
    assert raw is not None, "a segment without verdicts is not counted"
    return SegmentRates(
        segment=one.segment,
        evaluator=one.evaluator,
        judge_version=one.judge_version,
        start=one.start,
        newest=one.newest,
        verdicts=one.verdicts,
        estimated_verdicts=one.estimated_verdicts,
        audits=one.sums.audits,
        raw=raw,
        corrected=corrected_rate(one.judged, sensitivity=sensitivity, specificity=specificity),
        powered=_powered(one, trust),
    )


_TO_REACH_ALL = {
    Trust.POOL: "see policy.audit_share",
    Trust.PEOPLE: "groundwatch labels draw takes a sample of a whole window",
}


def _powered(one: Counted, trust: Trust) -> Rate | NoRate:
    if one.unreachable:
        share = one.unreachable / one.verdicts
        return NoRate(
            reason=f"{share:.0%} of the traces could never be audited, so nothing is known of their like; "
            f"{_TO_REACH_ALL[trust]}"
        )
    return powered_rate(one.sums)
