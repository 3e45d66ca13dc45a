"""Before verdicts of some partitions are written, the ledger learns what lies in all partitions.

A detector closes minutes by the newest event that it sees. What it sees first, after an outage, is the partition that
is caught up with first; the others may hold as many traces of the same minutes, and nothing says so as long as nothing
has come from them.
"""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from monitor.domain.errors import StreamUnavailable
from monitor.storage.engine import LedgerEngine
from monitor.storage.partition_positions import forget_soundings, note_soundings
from monitor.streaming.extents import Extents

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0


class Asked(Protocol):
    """Knows what lies in a topic: `monitor.streaming.extents.TopicExtents`."""

    topic: str

    def read(self) -> Extents:
        """As Kafka says now; raises StreamUnavailable."""
        ...


class Soundings:
    """Keeps what lies in the traces topic in the ledger; call from one thread at a time.

    Args:
        engine: of the ledger.
        traces: that topic.
        clock: seconds that pass.
    """

    def __init__(self, engine: LedgerEngine, traces: Asked, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._traces = traces
        self._clock = clock
        self._not_before = clock()
        self._pause = _FIRST_PAUSE_SECONDS

    def take(self) -> None:
        """Ask Kafka and tell the ledger.

        Where Kafka does not answer, the ledger is told that nobody knows, and what is to be written need not wait for
        longer: Kafka is asked again a second later, then more seldom.

        Raises:
            LedgerUnavailable: nothing was kept.
        """
        if self._clock() < self._not_before:
            return
        try:
            there = self._traces.read()
        except StreamUnavailable as error:
            logger.warning(
                "what lies in the traces topic is not known: detectors wait for traces that may lie there",
                extra={"error": str(error), "pause": self._pause},
            )
            forget_soundings(self._engine, self._traces.topic)
            self._not_before = self._clock() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        else:
            self._pause = _FIRST_PAUSE_SECONDS
            note_soundings(self._engine, there.log, there.offsets)
