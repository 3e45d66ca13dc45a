"""Detectors of a segment's slices: a prompt version that goes wrong must not hide in the traffic of the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from monitor.domain.alert import Alarm
from monitor.domain.trace import Slice
from monitor.drift.detector import RateDetector
from monitor.drift.seasons import Seasons
from monitor.storage.closed_minutes import ClosedMinute
from monitor.storage.drift_store import DetectorState

IDLE = timedelta(hours=24)
"""A slice without verdicts for so long, by event time, gives its place to another that needs one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How detectors learn; one that was made by another plan begins anew."""

    average_run_length: float
    baseline_verdicts: int
    seasons: Seasons

    def fresh(self) -> RateDetector:
        """A detector that has seen nothing."""
        return RateDetector(
            average_run_length=self.average_run_length, baseline_verdicts=self.baseline_verdicts, seasons=self.seasons
        )

    def made(self, detector: RateDetector) -> bool:
        """Whether this detector learns as planned."""
        return (detector.baseline_verdicts, detector.seasons) == (self.baseline_verdicts, self.seasons)

    def resumed(self, kept: Mapping[str, Any]) -> RateDetector | None:
        """The detector with this state; None where it is of another release or plan."""
        try:
            detector = RateDetector.from_state(dict(kept))
        except ValueError:
            return None
        return detector if self.made(detector) else None


class SliceDetectors:
    """Folds the slices of a segment's closed minutes.

    Which slices have a detector depends on event times and names alone, not on the order of arrival: those that came
    first, up to the limit, and of one minute the largest. Past the limit a new one takes the place of the one that has
    been idle longest, if any has been for `IDLE`.

    Args:
        plan: of each detector.
        most: slices that may have one at a time.
        kept: what the ledger has of them.
    """

    def __init__(self, plan: Plan, *, most: int, kept: Mapping[Slice, DetectorState]) -> None:
        self._plan = plan
        self._most = most
        self._kept = kept if most else {}
        self._last = {part: state.folded_through for part, state in self._kept.items()}
        # Only those that are folded into: most minutes have no verdict of most slices.
        self._detectors: dict[Slice, RateDetector] = {}
        self._gone: set[Slice] = set() if most else set(kept)

    def fold(self, minute: ClosedMinute, *, run_length: float) -> list[tuple[Slice, Alarm]]:
        """Fold one minute, later than all before it; the alarms that it raised, by the slices' names."""
        alarms = []
        by_size = sorted(minute.slices.items(), key=lambda item: (-item[1][0], item[0].dimension, item[0].value))
        for part, (total, hallucinated) in by_size:
            if part not in self._last and len(self._last) >= self._most and not self._make_room(minute):
                continue
            detector = self._detector(part)
            detector.average_run_length = run_length
            self._last[part] = minute.minute
            if (alarm := detector.fold(minute.minute, total, hallucinated)) is not None:
                alarms.append((part, alarm))
        return sorted(alarms, key=lambda item: (item[0].dimension, item[0].value))

    @property
    def changed(self) -> dict[Slice, DetectorState]:
        """The states that are to be kept."""
        return {
            part: DetectorState(state=detector.state(), folded_through=self._last[part])
            for part, detector in self._detectors.items()
        }

    @property
    def dropped(self) -> set[Slice]:
        """Slices whose states are to be forgotten."""
        return self._gone - self._detectors.keys()

    def _detector(self, part: Slice) -> RateDetector:
        if part not in self._detectors:
            kept = self._kept.get(part) if part not in self._gone else None
            self._detectors[part] = (kept and self._plan.resumed(kept.state)) or self._plan.fresh()
        return self._detectors[part]

    def _make_room(self, minute: ClosedMinute) -> bool:
        """Forget the slice that was idle longest, if one was for long enough."""
        idle = [
            (last, part.dimension, part.value, part)
            for part, last in self._last.items()
            if last < minute.minute - IDLE and part not in minute.slices
        ]
        if not idle:
            return False
        *_, part = min(idle)
        del self._last[part]
        self._detectors.pop(part, None)
        self._gone.add(part)
        return True
