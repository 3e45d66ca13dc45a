"""A judge that takes its time, for tests, demonstrations and capacity planning: what a large model does to a wait."""

import math
import time
from collections.abc import Callable, Sequence

from monitor.domain.judgement import CouldNotJudge, ExplainingJudge, JudgeIdentity, Opinion, Unjudgeable
from monitor.domain.trace import Trace


class UnhurriedJudge:
    """Says what another judge says, later. Safe to use from several threads where that one is.

    Args:
        judge: whose word it is, and whose identity.
        seconds: that each trace takes; infinity for a judge that hangs.
        heeds_deadline: whether it gives up at its deadline, as a judge should.
        pause: waits so many seconds.
    """

    def __init__(
        self,
        judge: ExplainingJudge,
        *,
        seconds: float,
        heeds_deadline: bool = True,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._judge = judge
        self._seconds = seconds
        self._heeds = heeds_deadline
        self._pause = pause

    @property
    def identity(self) -> JudgeIdentity:
        """The other judge's."""
        return self._judge.identity

    def judge_many(
        self, traces: Sequence[Trace], *, deadline_seconds: float, explain: Callable[[Trace, float], bool] | None = None
    ) -> list[Opinion | CouldNotJudge]:
        """One result a trace, in order, one after the other."""
        return [self._one(trace, deadline_seconds, explain) for trace in traces]

    def _one(
        self, trace: Trace, deadline_seconds: float, explain: Callable[[Trace, float], bool] | None
    ) -> Opinion | CouldNotJudge:
        if self._heeds and self._seconds > deadline_seconds:
            self._pause(deadline_seconds)
            return CouldNotJudge(reason=Unjudgeable.DEADLINE, detail=f"it takes {self._seconds:g} s")
        while math.isinf(self._seconds):
            self._pause(3600.0)
        self._pause(self._seconds)
        return self._judge.judge_many([trace], deadline_seconds=deadline_seconds, explain=explain)[0]
