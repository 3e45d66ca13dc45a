"""Which partitions of the traces topic detectors wait for, and for how long."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TypeAlias

from monitor.storage.partition_positions import Position

logger = logging.getLogger(__name__)

_Key: TypeAlias = tuple[str, int]
_LONGEST_STEP = 0.1
"""Of patience: whoever looks so seldom, or was asleep, has not waited all the time."""


class Backlog:
    """Waits for each partition that is behind, until its event time has stood still for long while others got on.

    Time counts while something comes from another partition, or no other is behind. While nothing comes from any of
    several that are behind, which is an outage, it does not: when that is over, each has the patience that it had.

    Args:
        patience: how long.
        clock: seconds that pass.
    """

    def __init__(self, *, patience: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience.total_seconds()
        self._clock = clock
        self._asked_at = clock()
        self._before: Mapping[_Key, Position] = {}
        self._waited: dict[_Key, float] = {}

    def waited_for(self, positions: Sequence[Position]) -> list[Position]:
        """Those that are behind and may still be waited for; to be told of all positions, each time."""
        now = self._clock()
        passed, self._asked_at = min(now - self._asked_at, _LONGEST_STEP * self._patience), now
        known = {(each.log, each.partition): each for each in positions}
        behind = {key: each for key, each in known.items() if each.behind}
        moved = {key for key, each in known.items() if self._offset_before(key) not in (None, each.next_offset)}
        waited = {}
        for key, each in behind.items():
            if key not in self._waited or self._before[key].newest_event_time != each.newest_event_time:
                waited[key] = 0.0
            else:
                others_get_on = moved - {key} or len(behind) == 1
                waited[key] = self._waited[key] + (passed if others_get_on else 0.0)
            self._tell(each, waited[key])
        self._before, self._waited = known, waited
        return [each for key, each in behind.items() if waited[key] < self._patience]

    def _offset_before(self, key: _Key) -> int | None:
        return self._before[key].next_offset if key in self._before else None

    def _tell(self, position: Position, waited: float) -> None:
        if waited >= self._patience > self._waited.get((position.log, position.partition), 0.0):
            logger.warning(
                "a partition is waited for no longer: what is in it will be late for detectors",
                extra={
                    "topic": position.log,
                    "partition": position.partition,
                    "records": position.ending - position.next_offset,
                    "reached": str(position.newest_event_time),
                },
            )
