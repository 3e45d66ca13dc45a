"""A sequential detector of a change of a hallucination rate, with a stated false-alarm rate.

The mixture Shiryaev-Roberts e-detector (Shin, Ramdas, Rinaldo: "E-detectors: a nonparametric framework for
sequential change detection", New England Journal of Statistics in Data Science, 2024): components with the recursion
`R <- (R + 1) L`, see `mixture`; an alarm is raised when their weighted mean reaches A.

Why the run length to a false alarm is at least A, in verdicts: while the true rate is on the tested side, L has a mean
of at most 1, whatever happened before. Hence E[R' | past] <= R + n for each component and for their mean M, and M - N
is a supermartingale, N being the verdicts folded in. At the alarm time T optional stopping gives E[M_T] <= E[N_T], and
M_T >= A: so E[N_T] >= A. Rises and falls share one A. The argument holds for any batching that does not look at the
verdicts, and for an A that changes, as long as it is known before the batch; it then holds for the least of them.

The tested rate must be known before the batch: it comes from verdicts at least one lag window old. It is an estimate,
so it is taken some standard errors towards the alternatives; that the promise holds all the same is shown by simulation
(docs/drift.md).
"""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

from monitor.domain.alert import Alarm, Direction
from monitor.drift.baseline import Baseline
from monitor.drift.mixture import Factors, Mixture, Side, factors
from monitor.drift.recovery import Recovery
from monitor.drift.rhythm import Rhythm
from monitor.drift.seasons import Seasons
from monitor.drift.trail import Trail

_RISES, _RISE_SHARES = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0), (1.0, 2.0, 5.0, 3.0, 2.0, 1.0, 0.5)
_FALLS, _FALL_SHARES = (1.25, 1.5, 2.0, 3.0, 4.0), (1.0, 1.0, 1.0, 1.0, 1.0)

SIDES: Sequence[Side] = (
    Side(Direction.RISE, 0.88, _RISES, _RISE_SHARES),
    Side(Direction.RISE, 0.06, _RISES, _RISE_SHARES),
    Side(Direction.FALL, 0.04, _FALLS, _FALL_SHARES),
    Side(Direction.FALL, 0.02, _FALLS, _FALL_SHARES),
)
"""Rise against the learning and against the frozen reference, then fall. A rise is what must be seen soon."""

HOLD_SHARE = 0.25
"""From this share of the alarm threshold on, the baseline learns nothing: what is seen may be a change."""

LONGEST_RUN = 1e12
_RUN_LENGTHS = (100.0, LONGEST_RUN)
_STATE_FORMAT = 2


class RateDetector:
    """Watches one stream of verdicts for a change of its hallucination rate.

    Deterministic: the same batches in the same order give the same alarms, and `state()` carries everything. It first
    learns a baseline from `baseline_verdicts` verdicts, then watches. After an alarm it starts afresh: the verdicts
    after the alarm become the new baseline, so a rate that stays high raises one alarm, not one an hour. After a rise
    it also waits for the rate to come back, and then goes on with the baseline of before.

    Args:
        average_run_length: verdicts between false alarms, on average, at least; 100 to 1e12.
        baseline_verdicts: verdicts to learn from before watching, at least 1.
        seasons: hours that have a baseline of their own; learning then lasts one period of them, at least.

    Raises:
        ValueError: an argument is out of range.
    """

    __slots__ = ("_arl", "_baseline", "_factors", "_mixture", "_recovery", "_seen", "_trail")

    def __init__(self, *, average_run_length: float, baseline_verdicts: int, seasons: Seasons = Seasons.NONE) -> None:
        self._arl = _in_range(average_run_length)
        if baseline_verdicts < 1:
            raise ValueError("a baseline needs at least one verdict")
        self._recovery: Recovery | None = None
        self._restart(Baseline(baseline_verdicts, seasons))

    def _restart(self, baseline: Baseline) -> None:
        self._baseline = baseline
        self._mixture = Mixture(SIDES)
        self._trail = Trail()
        self._seen = 0
        self._factors: dict[int, Factors] = {}

    @property
    def average_run_length(self) -> float:
        """Verdicts between false alarms, at least, on average. May be changed between two batches."""
        return self._arl

    @average_run_length.setter
    def average_run_length(self, verdicts: float) -> None:
        self._arl = _in_range(verdicts)

    @property
    def baseline_verdicts(self) -> int:
        """Verdicts that a baseline is first learned from."""
        return self._baseline.verdicts

    @property
    def seasons(self) -> Seasons:
        """Hours that have a baseline of their own."""
        return self._baseline.seasons

    @property
    def baseline_rate(self) -> float | None:
        """The rate that the stream is compared with, or None while it is being learned."""
        return self._baseline.rate if self._baseline.learned else None

    @property
    def rhythm(self) -> Rhythm | None:
        """Whether the hours of the day differ in the baseline, which without seasons is assumed not to be so."""
        return self._baseline.rhythm

    @property
    def verdicts_seen(self) -> int:
        """Verdicts folded in since the last restart, those of the baseline included."""
        return self._seen

    @property
    def evidence(self) -> float | None:
        """Natural logarithm of the e-detector's value; None before any verdict was watched."""
        return self._mixture.evidence

    def fold(self, event_time: datetime, total: int, hallucinated: float) -> Alarm | None:
        """Fold in one batch of verdicts with a common event time, and say whether it raises an alarm.

        Batches must come in event-time order; the caller decides what to do with late ones.

        Args:
            event_time: of the batch; aware.
            total: verdicts.
            hallucinated: how many of them are labelled so, or the sum of their probabilities.

        Raises:
            ValueError: the counts do not satisfy 0 <= hallucinated <= total.
        """
        if not 0 <= hallucinated <= total:
            raise ValueError(f"{hallucinated} of {total} verdicts cannot be hallucinated")
        if total == 0:
            return None
        self._seen += total
        if self._recovery is not None and (alarm := self._recovery.fold(event_time, total, hallucinated)) is not None:
            self._restart(self._recovery.baseline)
            self._recovery = None
            return alarm
        if not self._baseline.learned:
            self._baseline.learn(event_time, total, hallucinated)
            return None
        self._trail.add(event_time, total, hallucinated)
        ratio = self._factors_at(event_time)
        if total == 1:
            value = self._mixture.fold_one(hallucinated, ratio)
        else:
            value = self._mixture.fold_many(total, hallucinated, ratio)
        if value >= self._arl:
            return self._alarm(event_time, math.log(value))
        if self._baseline.observe(event_time, total, hallucinated, hold=value >= self._arl * HOLD_SHARE):
            self._factors = {}
        return None

    def _factors_at(self, event_time: datetime) -> Factors:
        stratum = self._baseline.seasons.stratum(event_time)
        if stratum not in self._factors:
            self._factors[stratum] = factors(SIDES, self._baseline.tested(stratum))
        return self._factors[stratum]

    def _alarm(self, event_time: datetime, evidence: float) -> Alarm:
        direction, before = self._mixture.direction, self._baseline
        change = self._trail.change(before.rate, direction)
        alarm = Alarm(
            event_time=event_time,
            change_at=change.at,
            change_earliest=change.earliest,
            change_latest=change.latest,
            direction=direction,
            evidence=evidence,
            rate_before=before.rate,
            rate_after=change.hallucinated / change.total,
            verdicts_seen=self._seen,
            delay_verdicts=change.total,
        )
        if direction is Direction.RISE and self._recovery is None:
            self._recovery = Recovery.from_rise(alarm, before, self._arl)
        self._restart(Baseline(before.verdicts, before.seasons))
        return alarm

    def state(self) -> dict[str, Any]:
        """Everything, as a JSON value; `from_state` continues exactly where this stands."""
        return {
            "format": _STATE_FORMAT,
            "average_run_length": self._arl,
            "seen": self._seen,
            "values": self._mixture.values(),
            "baseline": self._baseline.state(),
            "trail": self._trail.state(),
            "recovery": None if self._recovery is None else self._recovery.state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The detector whose `state()` this is.

        Raises:
            ValueError: the state has a format that this version does not know.
        """
        if state.get("format") != _STATE_FORMAT:
            raise ValueError(f"detector state of format {state.get('format')!r}; this version reads {_STATE_FORMAT}")
        detector = cls(average_run_length=state["average_run_length"], baseline_verdicts=state["baseline"]["verdicts"])
        detector._seen = state["seen"]
        detector._baseline = Baseline.from_state(state["baseline"])
        detector._mixture = Mixture(SIDES, state["values"])
        detector._trail = Trail.from_state(state["trail"])
        detector._recovery = None if state["recovery"] is None else Recovery.from_state(state["recovery"])
        return detector


def _in_range(run_length: float) -> float:
    shortest, longest = _RUN_LENGTHS
    if not shortest <= run_length <= longest:
        raise ValueError(f"average run length {run_length} is not between {shortest:g} and {longest:g}")
    return float(run_length)
