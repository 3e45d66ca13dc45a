"""The age limit: what has waited on disk for too long is given up, where its operator would rather have that."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from monitor.ingest.counters import Drop, IngestCounters
from monitor.ingest.spool_source import SpoolSource

_log = logging.getLogger(__name__)

_LOG_SECONDS = 60.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class AgeLimit:
    """How old the records of one spool may get. Not thread-safe: whoever empties the spool asks.

    Args:
        spool: whose.
        what: its records are, in the plural, for the log.
        max_age: None for no limit.
        counters: told of what is dropped.
        now: aware wall clock, the spool's own.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        spool: SpoolSource,
        what: str,
        *,
        max_age: timedelta | None,
        counters: IngestCounters,
        now: Callable[[], datetime] = _utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._what = what
        self._max_age = max_age
        self._counters = counters
        self._now = now
        self._clock = clock
        self._untold = 0
        self._next_line = float("-inf")

    def passed(self, after: int) -> tuple[int, int]:
        """How many of the next records after a position are too old, and the position of the last of them.

        Raises:
            SpoolUnavailable: the spool cannot be read.
        """
        if self._max_age is None:
            return 0, after
        return self._spool.spooled_before(self._now() - self._max_age, after=after)

    def drop(self, count: int) -> None:
        """Count what is dropped, and say so once a minute at most."""
        self._counters.dropped(Drop.TOO_OLD, count)
        self._untold += count
        if self._clock() >= self._next_line:
            _log.warning("%d %s waited for longer than %s and are dropped", self._untold, self._what, self._max_age)
            self._untold, self._next_line = 0, self._clock() + _LOG_SECONDS
