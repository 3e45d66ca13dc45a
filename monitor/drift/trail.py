"""What was folded since the watch began, in bounded memory, and where in it the rate changed."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from monitor.domain.alert import Direction

_BLOCKS = 32

_SUPPORT = 1.92
"""Half the 95 % point of chi-squared with one degree of freedom: how much less likely a time in the interval may be."""

_Block = tuple[datetime, int, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """The most likely beginning of a change.

    Attributes:
        at: event time of the first verdicts after it.
        earliest, latest: the times that are hardly less likely: a likelihood interval of about 95 %.
        total, hallucinated: verdicts since `at`, and the sum of them.
    """

    at: datetime
    earliest: datetime
    latest: datetime
    total: int
    hallucinated: float


class Trail:
    """Batches in event-time order, the older the coarser.

    An exponential histogram: level i holds at most 32 blocks of 2^i batches each; when one more arrives, its two oldest
    become one block of the next level. So a block is shorter than a sixteenth of its age, and a million batches fit in
    500 blocks; adding one takes constant time on average.
    """

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: list[deque[_Block]] = [deque()]

    def add(self, event_time: datetime, total: int, hallucinated: float) -> None:
        """Append one batch."""
        levels = self._levels
        level = levels[0]
        level.append((event_time, total, hallucinated))
        depth = 0
        while len(level) > _BLOCKS:
            at, total, hallucinated = level.popleft()
            _, more, positives = level.popleft()
            depth += 1
            if depth == len(levels):
                levels.append(deque())
            level = levels[depth]
            level.append((at, total + more, hallucinated + positives))

    def __iter__(self) -> Iterator[_Block]:
        for level in self._levels:
            yield from reversed(level)

    def change(self, baseline: float, direction: Direction) -> Change:
        """The maximum-likelihood change point: from `baseline` to whatever rate the verdicts since it show.

        Raises:
            ValueError: nothing was added.
        """
        places: list[tuple[float, datetime, int, float]] = []
        total, hallucinated = 0, 0.0
        for at, batch, positives in self:
            total += batch
            hallucinated += positives
            places.append((_gain(total, hallucinated, baseline, direction), at, total, hallucinated))
        if not places:
            raise ValueError("an empty trail has no change point")
        gain, at, total, hallucinated = max(places, key=lambda place: place[0])
        likely = [place[1] for place in places if place[0] >= gain - _SUPPORT]
        return Change(at=at, earliest=min(likely), latest=max(likely), total=total, hallucinated=hallucinated)

    def state(self) -> list[list[list[Any]]]:
        """Everything, as a JSON value."""
        return [[[at.isoformat(), total, positives] for at, total, positives in level] for level in self._levels]

    @classmethod
    def from_state(cls, state: list[list[list[Any]]]) -> Self:
        """The trail whose `state()` this is."""
        trail = cls()
        trail._levels = [
            deque((datetime.fromisoformat(at), total, positives) for at, total, positives in level) for level in state
        ]
        return trail


def _gain(total: int, hallucinated: float, baseline: float, direction: Direction) -> float:
    """Log-likelihood gained by giving these verdicts a rate of their own; 0 where that lies on the other side."""
    rate = hallucinated / total
    if (rate <= baseline) if direction is Direction.RISE else (rate >= baseline):
        return 0.0
    faithful = total - hallucinated
    gain = hallucinated * math.log(rate / baseline) if hallucinated > 0 else 0.0
    return gain + faithful * math.log((1 - rate) / (1 - baseline)) if faithful > 0 else gain
