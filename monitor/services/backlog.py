"""Which partitions of the traces topic detectors wait for, and for how long."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from monitor.storage.partition_ends import Position

_LONGEST_STEPS = 10
"""Nothing may come at all for long, which is an outage: patience lasts at least so many arrivals elsewhere."""


class Backlog:
    """Waits for each partition that is behind, until nothing has come from it while others got on for long.

    Time counts only while others get on, so an outage of all judges exhausts nobody's patience: when they are back,
    each partition has all of it.

    Args:
        patience: how long the others must have got on.
        clock: seconds that pass.
    """

    def __init__(self, *, patience: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience.total_seconds()
        self._clock = clock
        self._offsets: dict[tuple[str, int], int] = {}
        self._waited: dict[tuple[str, int], float] = {}
        self._arrived_at = clock()

    def waited_for(self, positions: Sequence[Position]) -> list[Position]:
        """Those that are behind and may still be waited for; to be told of all positions, each time."""
        offsets = {(each.log, each.partition): each.next_offset for each in positions}
        moved = {key for key, offset in offsets.items() if offset != self._offsets.get(key)}
        step = self._step() if moved else 0.0
        self._offsets = offsets
        behind = {(each.log, each.partition): each for each in positions if each.behind}
        self._waited = {key: 0.0 if key in moved else self._waited.get(key, 0.0) + step for key in behind}
        return [each for key, each in behind.items() if self._waited[key] < self._patience]

    def _step(self) -> float:
        now = self._clock()
        passed, self._arrived_at = now - self._arrived_at, now
        return min(passed, self._patience / _LONGEST_STEPS)
