"""The detector over recorded verdicts: what would have been raised, and when."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from monitor.domain.alert import Alarm
from monitor.drift.detector import RateDetector
from monitor.drift.seasons import Seasons
from monitor.drift.second_opinion import changes


class Row(NamedTuple):
    """One recorded verdict; `event_time` is aware. A tuple, because there are millions of them.

    Attributes:
        hallucinated: 0 or 1, or a probability.
    """

    event_time: datetime
    segment: str
    hallucinated: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayedAlarm:
    """An alarm and the segment that it was raised for.

    Attributes:
        second_opinion: when ADWIN saw a change, the first time since the earliest likely one; None where it did not,
            or was not asked.
    """

    segment: str
    alarm: Alarm
    second_opinion: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Backtest:
    """How recorded verdicts are replayed.

    Attributes:
        average_run_length, baseline_verdicts, seasons: see `RateDetector`; each segment has the whole run length.
        second_opinion: whether ADWIN is asked as well.
    """

    average_run_length: float
    baseline_verdicts: int
    seasons: Seasons = Seasons.NONE
    second_opinion: bool = False

    def run(self, rows: Iterable[Row]) -> list[ReplayedAlarm]:
        """Fold every row, one verdict at a time, into its segment's detector.

        Rows may come in any order: a segment's verdicts are sorted by event time first, and those with equal event
        times keep the order in which they came. All rows are held in memory, about 100 bytes each.

        Returns:
            The alarms by event time, then by segment.
        """
        recordings: dict[str, _Recording] = {}
        for event_time, segment, hallucinated in rows:
            recording = recordings.get(segment)
            if recording is None:
                recording = recordings[segment] = _Recording()
            recording.times.append(event_time)
            recording.verdicts.append(hallucinated)
        alarms = [alarm for segment, recording in recordings.items() for alarm in self._segment(segment, recording)]
        return sorted(alarms, key=lambda raised: (raised.alarm.event_time.astimezone(UTC), raised.segment))

    def _segment(self, segment: str, recording: "_Recording") -> Iterator[ReplayedAlarm]:
        fold = RateDetector(
            average_run_length=self.average_run_length,
            baseline_verdicts=self.baseline_verdicts,
            seasons=self.seasons,
        ).fold
        alarms = [alarm for when, verdict in recording.in_order() if (alarm := fold(when, 1, verdict)) is not None]
        asked = self.second_opinion and bool(alarms)
        seen = list(changes((when, 1, verdict) for when, verdict in recording.in_order())) if asked else []
        for alarm in alarms:
            place = bisect_left(seen, alarm.change_earliest or alarm.change_at)
            yield ReplayedAlarm(segment=segment, alarm=alarm, second_opinion=seen[place] if place < len(seen) else None)


class _Recording:
    """One segment's verdicts, as compact as Python allows: a pointer and eight bytes each."""

    __slots__ = ("times", "verdicts")

    def __init__(self) -> None:
        self.times: list[datetime] = []
        self.verdicts = array("d")

    def in_order(self) -> Iterator[tuple[datetime, float]]:
        if all(earlier <= later for earlier, later in pairwise(self.times)):
            return zip(self.times, self.verdicts, strict=True)
        order = sorted(range(len(self.times)), key=self.times.__getitem__)
        return ((self.times[index], self.verdicts[index]) for index in order)
