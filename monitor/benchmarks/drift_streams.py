"""Simulated streams of verdicts, and the detectors that are run over them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.benchmarks.cusum import OracleCusum
from monitor.drift.detector import RateDetector

Labels = NDArray[np.bool_]

ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)
"""One by one, verdicts need no times."""

OURS = "groundwatch"
ORACLE = "oracle CUSUM"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """One simulated segment.

    Attributes:
        reference: verdicts at the rate before, that a baseline is learned from.
        watched: verdicts after them; the rate changes at `quiet`.
        before, after: the rates, equal for a stationary stream.
    """

    reference: Labels
    watched: Labels
    before: float
    after: float
    quiet: int


@dataclass(frozen=True, slots=True)
class Shape:
    """How a stream is drawn.

    Attributes:
        learned_from: verdicts of the reference.
        quiet: stationary verdicts that are watched before the change.
        changed: verdicts after its beginning.
        ramp: verdicts over which the rate moves evenly from `before` to `after`; 0 for a jump.
    """

    before: float
    after: float
    learned_from: int
    quiet: int
    changed: int
    ramp: int = 0

    def draw(self, seed: int, run: int) -> Stream:
        """The stream of that run: the same for every detector, and at every time."""
        rng = np.random.default_rng([seed, run, self.learned_from, round(1e6 * self.before), round(1e6 * self.after)])
        steps = np.minimum(1.0, (np.arange(self.changed) + 1) / self.ramp) if self.ramp else np.ones(self.changed)
        rates = np.concatenate([np.full(self.quiet, self.before), self.before + (self.after - self.before) * steps])
        return Stream(
            reference=rng.random(self.learned_from) < self.before,
            watched=rng.random(len(rates)) < rates,
            before=self.before,
            after=self.after,
            quiet=self.quiet,
        )


FirstAlarm = Callable[[Stream, float], int | None]
"""Index in `watched` of the verdict that raises the first alarm, for an average run length."""


def _ours(stream: Stream, average_run_length: float) -> int | None:
    detector = RateDetector(average_run_length=average_run_length, baseline_verdicts=len(stream.reference))
    detector.fold(ANY_TIME, len(stream.reference), int(stream.reference.sum()))
    fold = detector.fold
    for place, label in enumerate(stream.watched.tolist()):
        if fold(ANY_TIME, 1, label) is not None:
            return place
    return None


def _oracle(stream: Stream, average_run_length: float) -> int | None:
    # On a stationary stream it waits for the doubling that does not come.
    after = stream.after if stream.after > stream.before else 2 * stream.before
    return _cusum(stream.before, after, average_run_length).first_alarm(stream.watched)


_CUSUMS: dict[tuple[float, float, float], OracleCusum] = {}


def _cusum(before: float, after: float, average_run_length: float) -> OracleCusum:
    key = (before, after, average_run_length)
    if key not in _CUSUMS:
        _CUSUMS[key] = OracleCusum(*key)
    return _CUSUMS[key]


def _of_river(make: Callable[[], Any]) -> FirstAlarm:
    def first_alarm(stream: Stream, _average_run_length: float) -> int | None:
        detector = make()
        for label in stream.reference.tolist():
            detector.update(label)
        for place, label in enumerate(stream.watched.tolist()):
            detector.update(label)
            if detector.drift_detected:
                return place
        return None

    return first_alarm


def _river(name: str) -> FirstAlarm:
    from river import drift  # noqa: PLC0415 - takes seconds to load, and only this benchmark needs all of it

    made = {
        "ADWIN": drift.ADWIN,
        "PageHinkley": drift.PageHinkley,
        "DDM": drift.binary.DDM,
        "EDDM": drift.binary.EDDM,
    }
    return _of_river(made[name])


CONTESTANTS: Mapping[str, Callable[[], FirstAlarm]] = MappingProxyType(
    {
        OURS: lambda: _ours,
        ORACLE: lambda: _oracle,
        **{name: partial(_river, name) for name in ("ADWIN", "PageHinkley", "DDM", "EDDM")},
    }
)
"""Who is measured: river's with their defaults, which promise nothing about false alarms."""
