"""Before verdicts of some partitions are written, the ledger learns how far all partitions reach.

A detector closes minutes by the newest event that it sees. What it sees first, after an outage, is the partition that
is caught up with first; the others may hold as many traces of the same minutes, and nothing that has come from a
partition says so while nothing has come from it.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from monitor.domain.errors import StreamUnavailable
from monitor.storage.engine import LedgerEngine
from monitor.storage.partition_ends import note_ends

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 30.0


class Ends(Protocol):
    """Knows where a topic's partitions end."""

    def read(self) -> Mapping[int, int]:
        """The offset of the next record, by partition; raises StreamUnavailable."""
        ...


class Soundings:
    """Keeps the ends of the traces topic's partitions in the ledger; call from one thread at a time.

    Args:
        engine: of the ledger.
        ends: of the traces topic.
        log: the topic, in this life of it: see `Origin.log`.
        clock: seconds that pass.
    """

    def __init__(
        self, engine: LedgerEngine, ends: Ends, *, log: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._ends = ends
        self._log = log
        self._clock = clock
        self._not_before = clock()

    def take(self) -> None:
        """Ask Kafka and tell the ledger. Where Kafka does not answer, verdicts do not wait: it is asked again later.

        Raises:
            LedgerUnavailable: nothing was kept.
        """
        if self._clock() < self._not_before:
            return
        try:
            ends = self._ends.read()
        except StreamUnavailable as error:
            self._not_before = self._clock() + _PAUSE_SECONDS
            logger.warning(
                "the ends of the traces topic are not known: after an outage, some verdicts may be late for detectors",
                extra={"error": str(error), "pause": _PAUSE_SECONDS},
            )
        else:
            note_ends(self._engine, self._log, ends)
