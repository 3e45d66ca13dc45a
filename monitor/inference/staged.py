"""The local cascade for one trace that somebody waits for: what the cheap judges say, then what the dear one adds.

As in `cascade`, the policy says whether the edge judge is asked; but nothing is audited, its time is bounded by whoever
waits and by nothing else, it writes no reasoning, and it is left alone where its word could not count.
"""

import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from monitor.domain.judgement import BatchJudge, CouldNotJudge, ExplainingJudge, JudgeIdentity, Judgement, Opinion
from monitor.domain.trace import Trace
from monitor.domain.verdict import Verdict
from monitor.inference.hearing import Chosen, Hearing
from monitor.inference.outcome import outcome
from monitor.judging.calibration import Calibration
from monitor.judging.judgeable import why_unjudgeable
from monitor.routing.policy import Choice, Policy

_EVERYONE = Choice(because="all", inclusion_probability=1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where the judging of one trace stands.

    Attributes:
        judgements: so far, cheapest first.
        outcome: what they come to.
        wanted: why the edge judge should be asked next; None where nobody should.
        complete: whether everyone who should speak has spoken: not where the edge judge is wanted, or has failed.
    """

    trace: Trace
    judgements: tuple[Judgement, ...]
    outcome: Verdict | CouldNotJudge
    wanted: Choice | None = None

    @property
    def complete(self) -> bool:
        """Whether everyone has spoken whom the policy wants to hear."""
        return self.wanted is None

    @property
    def decider(self) -> JudgeIdentity | None:
        """The dearest judge whose word carried weight; None without a verdict."""
        if not isinstance(self.outcome, Verdict):
            return None
        decided_by = self.outcome.decided_by
        return next((one.judge for one in reversed(self.judgements) if one.judge.version in decided_by), None)


class StagedCascade:
    """Judges one trace in two stages, which may be called from two threads; each from one at a time.

    Args:
        everyones: judges of the first stage, cheapest first.
        edge: the second stage's judge, or None.
        calibration: turns raw scores into probabilities and fuses them.
        policy: whether the edge judge is asked; its audit and its share of time do not count here.
        stopwatch: a steady clock in seconds, for latencies.
    """

    def __init__(
        self,
        everyones: Sequence[BatchJudge],
        *,
        edge: ExplainingJudge | None,
        calibration: Calibration,
        policy: Policy,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._everyones = tuple(everyones)
        self._edge = edge
        self._calibration = calibration
        self._policy = replace(policy, audit_share=0.0, edge_budget_share=1.0, escalates=False)
        self._hearing = Hearing(calibration, stopwatch=stopwatch)
        local: tuple[BatchJudge | ExplainingJudge, ...] = (*self._everyones, *([edge] if edge else ()))
        self.judges: tuple[JudgeIdentity, ...] = tuple(judge.identity for judge in local)
        parts = [*(identity.version for identity in self.judges), calibration.version, self._policy.digest]
        self.version = f"check@{hashlib.sha256(chr(0x1F).join(parts).encode()).hexdigest()[:12]}"

    @property
    def mute(self) -> JudgeIdentity | None:
        """The edge judge, where its word would change nothing even if all others had spoken, or none."""
        if self._edge is None:
            return None
        edge = self._edge.identity
        others = [judge.identity.version for judge in self._everyones]
        return None if self._moves(edge, others) or self._moves(edge, []) else edge

    def first(
        self, trace: Trace, *, deadline_seconds: float, so_far: Callable[[Standing], None] = lambda _: None
    ) -> Standing:
        """What the cheap judges say. Blocks; raises nothing for the trace's sake.

        Args:
            trace: to be judged.
            deadline_seconds: for each of them.
            so_far: told where it stands each time that one has spoken and another still has to: that one may be late.
        """
        if (bar := why_unjudgeable(trace)) is not None:
            return Standing(trace=trace, judgements=(), outcome=bar)
        said: list[Judgement] = []
        for judge in self._everyones:
            if said:
                so_far(self._standing(trace, said, wanted=_EVERYONE))
            said.append(self._ask_everyone(judge, trace, deadline_seconds))
        return self._standing(trace, said, wanted=self._wanted(trace, said))

    def second(self, standing: Standing, *, deadline_seconds: float) -> Standing:
        """What it comes to with the edge judge, who is wanted. Where it fails it stays wanted. Blocks, likewise."""
        edge, wanted = self._edge, standing.wanted
        if edge is None or wanted is None:
            return standing
        heard, _ = self._hearing.hear(
            edge,
            [Chosen(standing.trace, wanted)],
            lambda traces: edge.judge_many(traces, deadline_seconds=deadline_seconds, explain=_never),
        )
        spoke = isinstance(heard[0].result, Opinion)
        return self._standing(standing.trace, [*standing.judgements, *heard], wanted=None if spoke else wanted)

    def _ask_everyone(self, judge: BatchJudge, trace: Trace, deadline_seconds: float) -> Judgement:
        heard, _ = self._hearing.hear(
            judge,
            [Chosen(trace, _EVERYONE)],
            lambda traces: judge.judge_many(traces, deadline_seconds=deadline_seconds),
        )
        return heard[0]

    def _wanted(self, trace: Trace, said: Sequence[Judgement]) -> Choice | None:
        if self._edge is None or not self._would_count(self._edge.identity, said):
            return None
        fused = self._calibration.fuse(said, segment=trace.segment)
        probability = None if fused is None else fused[0]
        prospect = self._calibration.prospect(
            said, self._edge.identity.tier, probability=probability, threshold=self._policy.threshold
        )
        return self._policy.edge_choice(trace, probability, within_budget=True, prospect=prospect)

    def _would_count(self, edge: JudgeIdentity, said: Sequence[Judgement]) -> bool:
        """Whether its word could change what has been said: a judge of no weight is not worth anybody's time."""
        return self._moves(edge, [one.judge.version for one in said if isinstance(one.result, Opinion)])

    def _moves(self, edge: JudgeIdentity, spoke: Collection[str]) -> bool:
        return self._calibration.decider([*spoke, edge.version]) != self._calibration.decider(spoke)

    def _standing(self, trace: Trace, said: Sequence[Judgement], *, wanted: Choice | None) -> Standing:
        word = outcome(said, self._calibration, self._policy, segment=trace.segment)
        return Standing(trace=trace, judgements=tuple(said), outcome=word, wanted=wanted)


def _never(_trace: Trace, _raw_score: float) -> bool:
    return False
