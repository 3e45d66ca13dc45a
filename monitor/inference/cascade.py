"""The local cascade: screen all, ask the edge judge as policy says, fuse, decide.

    precheck ─▶ screen (batch) ─▶ policy ─▶ edge judge (within its time budget) ─▶ calibrated fusion ─▶ decision

Every trace that goes in comes out with exactly one assessment; a judge that raises on one trace costs that trace
one judgement and nothing else.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from monitor.domain.judgement import (
    BatchJudge,
    CouldNotJudge,
    Judge,
    JudgeIdentity,
    Judgement,
    Opinion,
    Tier,
    Unjudgeable,
)
from monitor.domain.trace import Origin, Segment, Trace
from monitor.domain.verdict import FAITHFULNESS, Assessment, Label, Verdict
from monitor.judging.calibration import Calibration
from monitor.judging.judgeable import why_unjudgeable
from monitor.judging.prospects import Prospect
from monitor.routing.budget import TimeBudget
from monitor.routing.policy import Choice, EdgeUse, Mode, Policy

log = logging.getLogger(__name__)

Result = Opinion | CouldNotJudge


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the judges said about one trace so far; `audit_only` judgements would not exist without the audit."""

    judgements: tuple[Judgement, ...]
    audit_only: tuple[Judgement, ...] = ()


class Cascade:
    """Judges batches of traces. Not thread-safe: call `assess` from one thread at a time.

    Args:
        screen: sees every trace; None leaves the edge judge alone, which then needs a policy of `edge = all`.
        edge: the GGUF judge, or None.
        calibration: turns raw scores into probabilities and fuses them.
        policy: who judges what, and what goes to the pool.
        clock: the time of judgement, aware.
        edge_deadline_seconds: no trace holds the edge judge longer.
        stopwatch: a steady clock in seconds, for latencies and the edge judge's budget.
    """

    def __init__(
        self,
        *,
        screen: BatchJudge | None,
        edge: Judge | None,
        calibration: Calibration,
        policy: Policy,
        clock: Callable[[], datetime],
        edge_deadline_seconds: float = 20.0,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._screen = screen
        self._edge = edge
        self._calibration = calibration
        self._policy = policy
        self._clock = clock
        self._edge_deadline = edge_deadline_seconds
        self._stopwatch = stopwatch
        self._budget = TimeBudget(share=policy.edge_budget_share)
        self._logged: set[tuple[str, str]] = set()
        self.version = self._version()

    @property
    def judges(self) -> tuple[JudgeIdentity, ...]:
        """The judges at work, cheapest first."""
        return tuple(judge.identity for judge in (self._screen, self._edge) if judge is not None)

    def _version(self) -> str:
        parts = [*(identity.version for identity in self.judges), self._calibration.version, self._policy.digest]
        return f"cascade@{hashlib.sha256(chr(0x1F).join(parts).encode()).hexdigest()[:12]}"

    def assess(self, items: Sequence[tuple[Trace, Origin]]) -> list[Assessment]:
        """One assessment an item, in order. Blocks; raises nothing for a trace's sake."""
        barred = [why_unjudgeable(trace) for trace, _ in items]
        judgeable = [trace for (trace, _), bar in zip(items, barred, strict=True) if bar is None]
        screened = iter(self._screen_all(judgeable))
        return [
            self._assessment(trace, origin, _Heard(()), bar)
            if bar is not None
            else self._assessment(trace, origin, self._ask_edge(trace, next(screened)), None)
            for (trace, origin), bar in zip(items, barred, strict=True)
        ]

    def _screen_all(self, traces: Sequence[Trace]) -> list[tuple[Judgement, ...]]:
        if self._screen is None or not traces:
            return [() for _ in traces]
        began = self._stopwatch()
        results = self._screen_results(self._screen, traces)
        latency = (self._stopwatch() - began) / len(traces)
        everyone = Choice(because="all", inclusion_probability=1.0)
        return [
            (self._judgement(self._screen.identity, result, latency, everyone, trace.segment),)
            for trace, result in zip(traces, results, strict=True)
        ]

    def _screen_results(self, screen: BatchJudge, traces: Sequence[Trace]) -> list[Result]:
        try:
            return screen.judge_many(traces, deadline_seconds=self._edge_deadline)
        except Exception as error:  # noqa: BLE001 - whatever a judge throws must not take the batch with it
            if len(traces) == 1:
                return [self._judge_error(screen.identity, error)]
        # One trace poisoned the batch: judge them one by one, so that only that one pays.
        return [self._screen_results(screen, [trace])[0] for trace in traces]

    def _ask_edge(self, trace: Trace, screened: tuple[Judgement, ...]) -> _Heard:
        if self._edge is None:
            return _Heard(screened)
        probability = self._fused(screened, trace.segment)
        moment = self._stopwatch()
        choice = self._policy.edge_choice(
            trace,
            probability,
            within_budget=self._policy.edge is EdgeUse.ALL or self._budget.allows(moment),
            prospect=self._prospect(screened, self._edge.identity.tier, probability),
            scarcity=self._budget.scarcity(moment),
        )
        if choice is None:
            return _Heard(screened)
        began = self._stopwatch()
        result = self._edge_result(self._edge, trace)
        ended = self._stopwatch()
        self._budget.spend(ended - began, now=ended)
        judgement = self._judgement(self._edge.identity, result, ended - began, choice, trace.segment)
        return _Heard((*screened, judgement), (judgement,) if choice.because == "audit" else ())

    def _edge_result(self, edge: Judge, trace: Trace) -> Result:
        try:
            return edge.judge(trace, deadline_seconds=self._edge_deadline)
        except Exception as error:  # noqa: BLE001 - likewise
            return self._judge_error(edge.identity, error)

    def _judge_error(self, identity: JudgeIdentity, error: Exception) -> CouldNotJudge:
        kind = (identity.version, type(error).__name__)
        if kind not in self._logged:
            # Once per judge and kind of error: a broken model would otherwise write a line a trace.
            self._logged.add(kind)
            log.error("judge %s failed; more such failures are only counted", identity.version, exc_info=error)
        return CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=f"{type(error).__name__}: {error}"[:500])

    def _judgement(
        self, identity: JudgeIdentity, result: Result, latency: float, choice: Choice, segment: Segment
    ) -> Judgement:
        if isinstance(result, Opinion) and not math.isfinite(result.raw_score):
            # Half-precision overflow: no number, so no word; compared with a threshold it would read as faithful.
            result = CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=f"the score is {result.raw_score}")
        probability = None
        if isinstance(result, Opinion):
            probability = self._calibration.probability(identity.version, result.raw_score, segment=segment)
        return Judgement(
            judge=identity,
            result=result,
            probability=probability,
            latency_seconds=latency,
            inclusion_probability=choice.inclusion_probability,
            chosen_because=choice.because,
        )

    def _fused(self, judgements: Sequence[Judgement], segment: Segment) -> float | None:
        fused = self._calibration.fuse(judgements, segment=segment)
        return None if fused is None else fused[0]

    def _prospect(self, judgements: Sequence[Judgement], tier: Tier, probability: float | None) -> Prospect | None:
        if self._policy.mode is not Mode.VALUE:
            return None
        return self._calibration.prospect(judgements, tier, probability=probability, threshold=self._policy.threshold)

    def _assessment(self, trace: Trace, origin: Origin, heard: _Heard, bar: CouldNotJudge | None) -> Assessment:
        unaudited = [judgement for judgement in heard.judgements if judgement not in heard.audit_only]
        probability = self._fused(unaudited, trace.segment)
        return Assessment(
            trace=trace,
            origin=origin,
            evaluator=FAITHFULNESS,
            judge_version=self.version,
            judgements=heard.judgements,
            outcome=bar or outcome(heard.judgements, self._calibration, self._policy, segment=trace.segment),
            decision=self._policy.decide(
                trace,
                probability=probability,
                failure=bar,
                prospect=self._prospect(unaudited, Tier.POOL, probability),
            ),
            judged_at=self._clock(),
        )


def outcome(
    judgements: Sequence[Judgement], calibration: Calibration, policy: Policy, *, segment: Segment | None = None
) -> Verdict | CouldNotJudge:
    """What all the judgements on one trace come to; also for a trace that the pool has judged since.

    Args:
        judgements: of every tier that was asked, cheapest first.
        calibration: fuses them.
        policy: its threshold makes the label.
        segment: the trace's, where the calibration may know it apart.
    """
    fused = calibration.fuse(judgements, segment=segment)
    if fused is None:
        return _why_not(judgements)
    probability, decided_by = fused
    label = policy.label(probability)
    opinions = [judgement.result for judgement in judgements if isinstance(judgement.result, Opinion)]
    spans = next((opinion.unsupported for opinion in opinions if opinion.unsupported), ())
    # The dearest judge's reasoning is the best there is; a judge without a say does not explain the verdict.
    reasoned = [
        judgement.result.reasoning
        for judgement in reversed(judgements)
        if isinstance(judgement.result, Opinion) and judgement.judge.version in decided_by
    ]
    return Verdict(
        label=label,
        probability=probability,
        reasoning=next((text for text in reasoned if text), None),
        unsupported=spans if label is Label.HALLUCINATED else (),
        decided_by=decided_by,
    )


def _why_not(judgements: Sequence[Judgement]) -> CouldNotJudge:
    failures = [judgement.result for judgement in judgements if isinstance(judgement.result, CouldNotJudge)]
    if len(failures) == len(judgements) and failures:
        return failures[-1]
    heard = ", ".join(judgement.judge.version for judgement in judgements if isinstance(judgement.result, Opinion))
    detail = f"no calibration gives weight to {heard}" if heard else "no judge was asked"
    reason = Unjudgeable.UNCALIBRATED if heard else Unjudgeable.JUDGE_UNAVAILABLE
    return CouldNotJudge(reason=reason, detail=detail)
