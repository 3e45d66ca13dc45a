"""Hearing a judge on many traces: one judgement each, whatever the judge does."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monitor.domain.judgement import BatchJudge, CouldNotJudge, JudgeIdentity, Judgement, Opinion, Unjudgeable
from monitor.domain.trace import Trace
from monitor.judging.calibration import Calibration
from monitor.routing.policy import Choice

log = logging.getLogger(__name__)

Result = Opinion | CouldNotJudge
Ask = Callable[[Sequence[Trace]], list[Result]]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A trace that a judge shall see, and why."""

    trace: Trace
    choice: Choice


class Hearing:
    """Asks judges, and calibrates what they say.

    Args:
        calibration: turns raw scores into probabilities.
        stopwatch: a steady clock in seconds, for latencies.
    """

    def __init__(self, calibration: Calibration, *, stopwatch: Callable[[], float] = time.monotonic) -> None:
        self._calibration = calibration
        self._stopwatch = stopwatch
        self._logged: set[tuple[str, str]] = set()

    def hear(self, judge: BatchJudge, chosen: Sequence[Chosen], ask: Ask) -> tuple[list[Judgement], float]:
        """One judgement a trace, in order, and the seconds that all of them took.

        Args:
            judge: whose word it is.
            chosen: traces of one batch; each is said to have taken its equal part of the time.
            ask: puts traces to the judge. Where it raises, they are put to it one by one, so that only the trace
                that it fails on pays.
        """
        if not chosen:
            return [], 0.0
        began = self._stopwatch()
        results = self._results(judge.identity, [one.trace for one in chosen], ask)
        seconds = self._stopwatch() - began
        latency = seconds / len(chosen)
        heard = [self._judgement(judge.identity, one, said, latency) for one, said in zip(chosen, results, strict=True)]
        return heard, seconds

    def _results(self, identity: JudgeIdentity, traces: Sequence[Trace], ask: Ask) -> list[Result]:
        try:
            return ask(traces)
        except Exception as error:  # noqa: BLE001 - whatever a judge throws must not take the batch with it
            if len(traces) == 1:
                return [self._failure(identity, error)]
        return [self._results(identity, [trace], ask)[0] for trace in traces]

    def _failure(self, identity: JudgeIdentity, error: Exception) -> CouldNotJudge:
        kind = (identity.version, type(error).__name__)
        if kind not in self._logged:
            # Once per judge and kind of error: a broken model would otherwise write a line a trace.
            self._logged.add(kind)
            log.error("judge %s failed; more such failures are only counted", identity.version, exc_info=error)
        return CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=f"{type(error).__name__}: {error}"[:500])

    def _judgement(self, identity: JudgeIdentity, chosen: Chosen, result: Result, latency: float) -> Judgement:
        if isinstance(result, Opinion) and not math.isfinite(result.raw_score):
            # Half-precision overflow: no number, so no word; compared with a threshold it would read as faithful.
            result = CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=f"the score is {result.raw_score}")
        probability = None
        if isinstance(result, Opinion):
            segment = chosen.trace.segment
            probability = self._calibration.probability(identity.version, result.raw_score, segment=segment)
        return Judgement(
            judge=identity,
            result=result,
            probability=probability,
            latency_seconds=latency,
            inclusion_probability=chosen.choice.inclusion_probability,
            chosen_because=chosen.choice.because,
        )
