"""What a batch adds to the counters: summed here, so that Postgres touches each row of them once.

Probabilities are summed as decimals of 15 digits, as Postgres casts them to numeric: a recount in SQL comes to the
same digits in any order.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final, NamedTuple

from monitor.domain.judgement import Judgement, Opinion, Tier
from monitor.domain.verdict import Action, Assessment
from monitor.storage.planning import Standing
from monitor.storage.rows import OutcomeColumns, microseconds
from monitor.storage.storable import storable

# No sum of a batch's probabilities is rounded: 15 digits each, and six more for how many there are.
_EXACT: Final = Context(prec=60)
_MOST_VALUE = 200


class RollupKey(NamedTuple):
    """A row of `rollups`, and a probability of sampling: counts of one are weighed alike."""

    segment_id: int
    minute: datetime
    sampling_probability: float


class SliceKey(NamedTuple):
    """A row of `slice_rollups`."""

    segment_id: int
    dimension: str
    value: str
    minute: datetime


@dataclass(kw_only=True, slots=True)
class Tally:
    """Counts of traces with one key, as `rollups` names them."""

    traces: int = 0
    total: int = 0
    hallucinated: int = 0
    unjudged: int = 0
    pending: int = 0
    first_total: int = 0
    first_hallucinated: int = 0
    escalated: int = 0
    pool_judged: int = 0
    sum_probability: Decimal = Decimal(0)
    local_latency_us: int = 0
    pool_latency_us: int = 0
    last_event_time: datetime | None = None
    first_unreachable: int = 0
    first_last_event_time: datetime | None = None
    replayed: int = 0

    def add(self, said: Assessment, outcome: OutcomeColumns, *, first: bool) -> None:
        """Count one trace; `first` says whether detectors watch its verdict."""
        self.traces += 1
        self.replayed += said.origin.replay_id is not None
        self.escalated += said.decision.action is Action.ESCALATE
        if outcome.probability is not None and outcome.hallucinated is not None:
            self.total += 1
            self.hallucinated += outcome.hallucinated
            if first:
                self._add_first(said, hallucinated=outcome.hallucinated)
            self.sum_probability = _EXACT.add(self.sum_probability, Decimal(f"{outcome.probability:.15g}"))
        else:
            self.unjudged += outcome.outcome == "u"
            self.pending += outcome.outcome == "p"
        for judgement in said.judgements:
            if judgement.judge.tier is Tier.POOL:
                self.pool_latency_us += microseconds(judgement)
                self.pool_judged += isinstance(judgement.result, Opinion)
            else:
                self.local_latency_us += microseconds(judgement)
        self.last_event_time = _newest(self.last_event_time, said)

    def _add_first(self, said: Assessment, *, hallucinated: bool) -> None:
        self.first_total += 1
        self.first_hallucinated += hallucinated
        self.first_unreachable += said.decision.inclusion_probability == 0
        self.first_last_event_time = _newest(self.first_last_event_time, said)


def _newest(known: datetime | None, said: Assessment) -> datetime:
    return said.trace.event_time if known is None else max(known, said.trace.event_time)


class CostKey(NamedTuple):
    """A row of `cost_rollups`."""

    segment_id: int
    judge: str
    hour: datetime


@dataclass(kw_only=True, slots=True)
class Cost:
    """What judgements with one key cost, as `cost_rollups` names it."""

    judgements: int = 0
    not_judged: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    nano_usd: int = 0
    latency_us: int = 0

    def add(self, judgement: Judgement) -> None:
        """Count one judge's word."""
        self.judgements += 1
        self.latency_us += microseconds(judgement)
        if isinstance(judgement.result, Opinion):
            usage = judgement.result.usage
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens
            if usage.cost_usd:
                self.nano_usd += nano_usd(usage.cost_usd)
        else:
            self.not_judged += 1


def nano_usd(usd: float) -> int:
    """Money as it is summed: whole billionths, rounded as Postgres rounds a numeric, half away from zero."""
    return int(_EXACT.multiply(Decimal(f"{usd:.15g}"), Decimal(10**9)).to_integral_value(rounding=ROUND_HALF_UP))


@dataclass(kw_only=True, slots=True)
class Tallies:
    """All counters of a batch.

    Attributes:
        dimensions: by which first verdicts are counted besides: `generator_model`, `prompt_version`, or a tag's name.
        slices: first verdicts, and hallucinated ones among them.
        hours: of segments that had a first verdict.
    """

    dimensions: Sequence[str]
    rollups: dict[RollupKey, Tally] = field(default_factory=dict)
    costs: dict[CostKey, Cost] = field(default_factory=dict)
    slices: Counter[tuple[SliceKey, bool]] = field(default_factory=Counter)
    hours: set[tuple[int, datetime]] = field(default_factory=set)

    def add(self, segment_id: int, standing: Standing) -> None:
        """Count one trace. Detectors watch what happens, not what is judged anew."""
        said, outcome = standing.said, standing.outcome
        watched = said.origin.replay_id is None
        minute = said.trace.event_time.replace(second=0, microsecond=0)
        key = RollupKey(segment_id, minute, said.trace.sampling_probability)
        tally = self.rollups.get(key)
        if tally is None:
            tally = self.rollups[key] = Tally()
        tally.add(said, outcome, first=watched)
        hour = minute.replace(minute=0)
        for judgement, (judge, _) in zip(said.judgements, standing.judged_by, strict=True):
            self._cost(CostKey(segment_id, judge, hour)).add(judgement)
        if outcome.hallucinated is None or not watched:
            return
        self.hours.add((segment_id, hour))
        for dimension in self.dimensions:
            if value := _value(said, dimension):
                self.slices[SliceKey(segment_id, dimension, value, minute), outcome.hallucinated] += 1

    def rollup_columns(self) -> list[list[object]]:
        """As arrays, in the order of `UPSERT_ROLLUPS`."""
        return _columns((*key, *_values(tally)) for key, tally in self.rollups.items())

    def _cost(self, key: CostKey) -> Cost:
        if (cost := self.costs.get(key)) is None:
            cost = self.costs[key] = Cost()
        return cost

    def cost_columns(self) -> list[list[object]]:
        """As arrays, in the order of `UPSERT_COSTS`."""
        return _columns((*key, *_values(cost)) for key, cost in self.costs.items())

    def slice_columns(self) -> list[list[object]]:
        """As arrays, in the order of `UPSERT_SLICES`."""
        keys = {key for key, _ in self.slices}
        return _columns(
            (*key, self.slices[key, False] + self.slices[key, True], self.slices[key, True]) for key in keys
        )

    def hour_columns(self) -> list[list[object]]:
        """As arrays, in the order of `INSERT_SEGMENT_HOURS`."""
        return _columns(self.hours)


def _value(said: Assessment, dimension: str) -> str:
    trace = said.trace
    if dimension == "generator_model":
        value = trace.generator_model
    elif dimension == "prompt_version":
        value = trace.prompt_version
    else:
        value = trace.tags.get(dimension)
    return storable(value or "")[:_MOST_VALUE]


def _values(counts: Tally | Cost) -> tuple[object, ...]:
    return tuple(getattr(counts, each.name) for each in fields(counts))


def _columns(rows: Iterable[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
