"""Which partitions of the traces topic detectors wait for, and for how long."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TypeAlias

from monitor.storage.partition_positions import Position

logger = logging.getLogger(__name__)

_Key: TypeAlias = tuple[str, int]

_LONGEST_STEP_SECONDS = 30.0
"""Whoever was asleep for longer has not waited all the time; nor has who was, for a tenth of patience."""

_GETS_ON = 1 / 3
"""Of patience: a partition that nothing came from for so long gets on no more."""


class Backlog:
    """Waits for each partition that is behind, until its event time has stood still for long while others got on.

    Time counts while another partition gets on, or no other is behind. While nothing comes from any of several that are
    behind, which is an outage, it soon does not: when that is over, most of everybody's patience is left.

    Args:
        patience: how long.
        clock: seconds that pass.
    """

    def __init__(self, *, patience: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience.total_seconds()
        self._clock = clock
        self._asked_at = clock()
        self._before: Mapping[_Key, Position] = {}
        self._moved_at: dict[_Key, float] = {}
        self._waited: dict[_Key, float] = {}

    def waited_for(self, positions: Sequence[Position]) -> list[Position]:
        """Those that are behind and may still be waited for; to be told of all positions, each time."""
        now = self._clock()
        longest = max(_LONGEST_STEP_SECONDS, self._patience / 10)
        passed, self._asked_at = min(now - self._asked_at, longest), now
        known = {(each.log, each.partition): each for each in positions}
        behind = {key for key, each in known.items() if each.behind}
        for key, each in known.items():
            if key in self._before and self._before[key].next_offset != each.next_offset:
                self._moved_at[key] = now
        for key, each in known.items():
            if key not in self._before or self._before[key].newest_event_time != each.newest_event_time:
                self._waited[key] = 0.0
            elif key in behind and (behind == {key} or self._another_gets_on(key, now)):
                self._wait(each, passed)
        self._before = known
        return [known[key] for key in known if key in behind and self._waited[key] < self._patience]

    def _another_gets_on(self, key: _Key, now: float) -> bool:
        return any(now - at <= _GETS_ON * self._patience for other, at in self._moved_at.items() if other != key)

    def _wait(self, position: Position, seconds: float) -> None:
        key = (position.log, position.partition)
        before = self._waited[key]
        self._waited[key] = before + seconds
        if before < self._patience <= self._waited[key]:
            logger.warning(
                "a partition is waited for no longer: what is in it will be late for detectors",
                extra={
                    "topic": position.log,
                    "partition": position.partition,
                    "next_offset": position.next_offset,
                    "end": position.ending,
                    "reached": str(position.newest_event_time),
                },
            )
