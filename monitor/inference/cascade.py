"""The local cascade: who is asked about which trace, and what becomes of it.

    precheck ─▶ screen ─▶ encoder ─▶ policy ─▶ GGUF judge (within its time budget) ─▶ fusion ─▶ decision
              (all, in one batch)              (the chosen, in small batches)

Every trace that goes in comes out with exactly one assessment; a judge that raises on one trace costs that trace
one judgement and nothing else.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from monitor.domain.judgement import BatchJudge, CouldNotJudge, ExplainingJudge, JudgeIdentity, Judgement, Tier
from monitor.domain.trace import Origin, Segment, Trace
from monitor.domain.verdict import FAITHFULNESS, Assessment, Label
from monitor.inference.hearing import Chosen, Hearing
from monitor.inference.outcome import outcome
from monitor.judging.calibration import Calibration
from monitor.judging.judgeable import why_unjudgeable
from monitor.judging.prospects import Prospect
from monitor.routing.budget import TimeBudget
from monitor.routing.policy import Choice, EdgeUse, Mode, Policy

EDGE_BATCH = 8
"""Traces that the edge judge is given at once: enough for it to write about several while it reads the next."""

EDGE_BATCH_SECONDS = 1.0
"""No batch is expected to take longer, unless it is of one trace: between batches the time budget is looked at."""

_RECENT = 0.2
"""Weight of the latest batch in what a trace is expected to take."""

_EVERYONE = Choice(because="all", inclusion_probability=1.0)


class Explain(StrEnum):
    """Which traces the edge judge writes reasoning for; it takes many times as long as a verdict."""

    NEVER = "never"
    FINDINGS = "findings"
    """Those that it finds hallucinated or is unsure of, and the audited; only where its word carries weight."""
    ALWAYS = "always"


@dataclass(slots=True)
class _Case:
    """One trace on its way; `audit_only` judgements would not exist without the audit."""

    trace: Trace
    origin: Origin
    bar: CouldNotJudge | None
    judgements: list[Judgement] = field(default_factory=list)
    audit_only: list[Judgement] = field(default_factory=list)

    @property
    def unaudited(self) -> list[Judgement]:
        return [judgement for judgement in self.judgements if judgement not in self.audit_only]


class Cascade:
    """Judges batches of traces. Not thread-safe: call `assess` from one thread at a time.

    Args:
        screen: sees every trace; None leaves the edge judge alone, which then needs a policy of `edge = all`.
        encoder: sees every trace too, or None.
        edge: the GGUF judge, or None.
        calibration: turns raw scores into probabilities and fuses them.
        policy: who judges what, and what goes to the pool.
        clock: the time of judgement, aware.
        explain: which traces get reasoning from the edge judge.
        edge_deadline_seconds: no trace holds the edge judge longer.
        encoder_deadline_seconds: no batch holds the encoder longer.
        stopwatch: a steady clock in seconds, for latencies and the edge judge's budget.
    """

    def __init__(
        self,
        *,
        screen: BatchJudge | None,
        edge: ExplainingJudge | None,
        calibration: Calibration,
        policy: Policy,
        clock: Callable[[], datetime],
        encoder: BatchJudge | None = None,
        explain: Explain = Explain.FINDINGS,
        edge_deadline_seconds: float = 20.0,
        encoder_deadline_seconds: float = 20.0,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._everyones = [judge for judge in (screen, encoder) if judge is not None]
        self._edge = edge
        self._calibration = calibration
        self._policy = policy
        self._clock = clock
        self._explain = explain
        self._edge_deadline = edge_deadline_seconds
        self._encoder_deadline = encoder_deadline_seconds
        self._stopwatch = stopwatch
        self._budget = TimeBudget(share=policy.edge_budget_share)
        self._edge_seconds: float | None = None
        self._hearing = Hearing(calibration, stopwatch=stopwatch)
        self.version = self._version()

    @property
    def judges(self) -> tuple[JudgeIdentity, ...]:
        """The judges at work, cheapest first."""
        local: list[BatchJudge | ExplainingJudge] = [*self._everyones, *([self._edge] if self._edge else [])]
        return tuple(judge.identity for judge in local)

    def _version(self) -> str:
        parts = [*(identity.version for identity in self.judges), self._calibration.version, self._policy.digest]
        return f"cascade@{hashlib.sha256(chr(0x1F).join(parts).encode()).hexdigest()[:12]}"

    def assess(self, items: Sequence[tuple[Trace, Origin]]) -> list[Assessment]:
        """One assessment an item, in order. Blocks; raises nothing for a trace's sake."""
        cases = [_Case(trace, origin, why_unjudgeable(trace)) for trace, origin in items]
        judgeable = [case for case in cases if case.bar is None]
        for judge in self._everyones:
            self._ask_everyone(judge, judgeable)
        if self._edge is not None:
            self._ask_edge(self._edge, judgeable)
        return [self._assessment(case) for case in cases]

    def _ask_everyone(self, judge: BatchJudge, cases: Sequence[_Case]) -> None:
        chosen = [Chosen(case.trace, _EVERYONE) for case in cases]
        heard, _ = self._hearing.hear(
            judge, chosen, lambda traces: judge.judge_many(traces, deadline_seconds=self._encoder_deadline)
        )
        for case, judgement in zip(cases, heard, strict=True):
            case.judgements.append(judgement)

    def _ask_edge(self, edge: ExplainingJudge, cases: Iterable[_Case]) -> None:
        batch: list[tuple[_Case, Choice]] = []
        for case in cases:
            if (choice := self._edge_choice(edge, case)) is not None:
                batch.append((case, choice))
            if len(batch) >= self._edge_batch():
                self._ask_edge_batch(edge, batch)
                batch = []
        self._ask_edge_batch(edge, batch)

    def _edge_batch(self) -> int:
        """How many traces go to the edge judge at once; one until it is known how long they take."""
        if self._edge_seconds is None:
            return 1
        return max(1, min(EDGE_BATCH, int(EDGE_BATCH_SECONDS / max(self._edge_seconds, 1e-6))))

    def _edge_choice(self, edge: ExplainingJudge, case: _Case) -> Choice | None:
        probability = self._fused(case.judgements, case.trace.segment)
        moment = self._stopwatch()
        return self._policy.edge_choice(
            case.trace,
            probability,
            within_budget=self._policy.edge is EdgeUse.ALL or self._budget.allows(moment),
            prospect=self._prospect(case.judgements, edge.identity.tier, probability),
            scarcity=self._budget.scarcity(moment),
        )

    def _ask_edge_batch(self, edge: ExplainingJudge, batch: Sequence[tuple[_Case, Choice]]) -> None:
        chosen = [Chosen(case.trace, choice) for case, choice in batch]

        def explains(trace: Trace, raw_score: float) -> bool:
            return self._explains(edge.identity.version, trace, raw_score)

        heard, seconds = self._hearing.hear(
            edge,
            chosen,
            lambda traces: edge.judge_many(traces, deadline_seconds=self._edge_deadline, explain=explains),
        )
        if chosen:
            self._budget.spend(seconds, now=self._stopwatch())
            each = seconds / len(chosen)
            known = each if self._edge_seconds is None else self._edge_seconds
            self._edge_seconds = known + _RECENT * (each - known)
        for (case, choice), judgement in zip(batch, heard, strict=True):
            case.judgements.append(judgement)
            if choice.because == "audit":
                case.audit_only.append(judgement)

    def _explains(self, version: str, trace: Trace, raw_score: float) -> bool:
        if self._explain is not Explain.FINDINGS:
            return self._explain is Explain.ALWAYS
        known = self._calibration.judges.get(version)
        if known is None or not known.informative:
            return False
        probability = self._calibration.probability(version, raw_score, segment=trace.segment)
        finds = probability is not None and self._policy.label(probability) is Label.HALLUCINATED
        return finds or self._policy.is_unsure(probability) or self._policy.is_audited(trace)

    def _fused(self, judgements: Sequence[Judgement], segment: Segment) -> float | None:
        fused = self._calibration.fuse(judgements, segment=segment)
        return None if fused is None else fused[0]

    def _prospect(self, judgements: Sequence[Judgement], tier: Tier, probability: float | None) -> Prospect | None:
        if self._policy.mode is not Mode.VALUE:
            return None
        return self._calibration.prospect(judgements, tier, probability=probability, threshold=self._policy.threshold)

    def _assessment(self, case: _Case) -> Assessment:
        segment = case.trace.segment
        unaudited = case.unaudited
        probability = self._fused(unaudited, segment)
        return Assessment(
            trace=case.trace,
            origin=case.origin,
            evaluator=FAITHFULNESS,
            judge_version=self.version,
            judgements=tuple(case.judgements),
            outcome=case.bar or outcome(case.judgements, self._calibration, self._policy, segment=segment),
            decision=self._policy.decide(
                case.trace,
                probability=probability,
                failure=case.bar,
                prospect=self._prospect(unaudited, Tier.POOL, probability),
                replayed=case.origin.replay_id is not None,
            ),
            judged_at=self._clock(),
        )
