"""How the budget of false alarms is divided."""

from datetime import datetime

from monitor.drift.detector import LONGEST_RUN
from monitor.storage.engine import LedgerEngine
from monitor.storage.live_segments import live_segments

_HOURS_KEPT = 1000


class RunLengths:
    """The run length of each segment's detector: the budget, times the segments that are live.

    With K segments, each watched at K times the run length, false alarms anywhere come no oftener, on average, than
    once in as many verdicts of the average segment as the budget says. K is counted for each hour of event time from
    what was over an hour before, so a replay divides alike.

    Args:
        engine: of the ledger.
        budget: average run length of all segments together, in verdicts of the average segment.
    """

    def __init__(self, engine: LedgerEngine, *, budget: float) -> None:
        self._engine = engine
        self._budget = budget
        self._hours: dict[datetime, float] = {}

    def at(self, minute: datetime) -> float:
        """The run length of a detector that folds this minute.

        Raises:
            LedgerUnavailable: Postgres is away or not migrated.
        """
        hour = minute.replace(minute=0, second=0, microsecond=0)
        if hour not in self._hours:
            while len(self._hours) >= _HOURS_KEPT:
                del self._hours[next(iter(self._hours))]
            live = max(1, live_segments(self._engine, hour))
            self._hours[hour] = min(self._budget * live, LONGEST_RUN)
        return self._hours[hour]
