"""How the budget of false alarms is divided."""

from dataclasses import dataclass
from datetime import datetime

from monitor.drift.detector import LONGEST_RUN
from monitor.storage.engine import LedgerEngine
from monitor.storage.live_segments import live_segments

_HOURS_KEPT = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLength:
    """Verdicts between false alarms, on average, at least: of a segment's detector, and of that of a slice."""

    segment: float
    slice: float


class RunLengths:
    """The run lengths of all detectors: the budget, times the segments that are live.

    With K segments, each watched at K times the run length, false alarms anywhere come no oftener, on average, than
    once in as many verdicts of the average segment as the budget says. Where slices are watched, too, they get half of
    the budget: a verdict is in at most one slice of each of D dimensions, so whatever slices there are, detectors that
    run 2 K D times the budget use no more than that half, by their own verdicts. K is counted for each hour of event
    time from what was over an hour before, so a replay divides alike.

    Args:
        engine: of the ledger.
        budget: average run length of all detectors together, in verdicts of the average segment.
        dimensions: whose slices are watched; 0 for none.
    """

    def __init__(self, engine: LedgerEngine, *, budget: float, dimensions: int = 0) -> None:
        self._engine = engine
        self._budget = budget
        self._dimensions = dimensions
        self._hours: dict[datetime, RunLength] = {}

    def at(self, minute: datetime) -> RunLength:
        """The run lengths of detectors that fold this minute.

        Raises:
            LedgerUnavailable: Postgres is away or not migrated.
        """
        hour = minute.replace(minute=0, second=0, microsecond=0)
        if hour not in self._hours:
            while len(self._hours) >= _HOURS_KEPT:
                del self._hours[next(iter(self._hours))]
            live = max(1, live_segments(self._engine, hour))
            whole = self._budget * live * (2 if self._dimensions else 1)
            self._hours[hour] = RunLength(
                segment=min(whole, LONGEST_RUN), slice=min(whole * max(1, self._dimensions), LONGEST_RUN)
            )
        return self._hours[hour]
