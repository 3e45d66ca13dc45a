"""After a rise: has the rate come back?"""

import math
from datetime import datetime
from typing import Any, Self

from monitor.domain.alert import Alarm, Direction
from monitor.drift.baseline import Baseline
from monitor.drift.mixture import Mixture, Side, factors
from monitor.drift.trail import Trail

_SIDES = (Side(Direction.FALL, 1.0, (1.25, 1.5, 2.0, 3.0, 4.0), (1.0, 1.0, 1.0, 1.0, 1.0)),)

_SHARE = 0.05
"""Of the alarm's run length: a recovery that is announced too soon costs less than a false alarm."""

_LEAST_RUN_LENGTH = 100.0


class Recovery:
    """Tests the rate against the middle between before and after the rise: recovered is what is surely below it.

    The middle is the geometric mean. While the rate stays at or above it, the mean number of verdicts until it is
    wrongly called recovered is at least a twentieth of the alarm's run length (the argument is `detector`'s); well
    above it, far more.

    Args:
        baseline: what was compared with before the rise, and will be after the recovery.
        raised: the rate after the rise.
        run_length: of the recovery test.
    """

    __slots__ = ("_factors", "_middle", "_mixture", "_raised", "_run_length", "_trail", "baseline")

    def __init__(self, *, baseline: Baseline, raised: float, run_length: float) -> None:
        self.baseline = baseline
        self._raised = raised
        self._run_length = run_length
        self._middle = math.sqrt(baseline.rate * raised)
        self._factors = factors(_SIDES, (self._middle,))
        self._mixture = Mixture(_SIDES)
        self._trail = Trail()

    @classmethod
    def from_rise(cls, alarm: Alarm, baseline: Baseline, average_run_length: float) -> Self:
        """What to wait for after this alarm."""
        run_length = max(_LEAST_RUN_LENGTH, _SHARE * average_run_length)
        return cls(baseline=baseline, raised=min(alarm.rate_after, 1 - 1e-6), run_length=run_length)

    def fold(self, event_time: datetime, total: int, hallucinated: float) -> Alarm | None:
        """Fold in one batch; the fall that ends the rise, once it is sure."""
        self._trail.add(event_time, total, hallucinated)
        value = self._mixture.fold_many(total, hallucinated, self._factors)
        if value < self._run_length:
            return None
        change = self._trail.change(self._middle, Direction.FALL)
        return Alarm(
            event_time=event_time,
            change_at=change.at,
            change_earliest=change.earliest,
            change_latest=change.latest,
            direction=Direction.FALL,
            evidence=math.log(value),
            rate_before=self._raised,
            rate_after=change.hallucinated / change.total,
            verdicts_seen=sum(total for _, total, _ in self._trail),
            delay_verdicts=change.total,
            recovers=True,
        )

    def state(self) -> dict[str, Any]:
        """Everything, as a JSON value."""
        return {
            "baseline": self.baseline.state(),
            "raised": self._raised,
            "run_length": self._run_length,
            "values": self._mixture.values(),
            "trail": self._trail.state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The recovery whose `state()` this is."""
        recovery = cls(
            baseline=Baseline.from_state(state["baseline"]), raised=state["raised"], run_length=state["run_length"]
        )
        recovery._mixture = Mixture(_SIDES, state["values"])
        recovery._trail = Trail.from_state(state["trail"])
        return recovery
