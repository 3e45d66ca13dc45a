"""Segments as attributes of metrics: bounded in number, and in time where the SDK lets go of what is old."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from monitor.domain.trace import Segment
from monitor.telemetry import names

MAX_SEGMENTS = 200
"""Segments that get time series of their own."""

STALE_SECONDS = 3600.0
"""A gauge that was not set for so long ends: what nobody has said for an hour is not so *now*."""

OTHER = "other"


def attributes_of(segment: Segment) -> dict[str, str]:
    """A segment's attributes."""
    return {names.TENANT: segment.tenant, names.SERVICE: segment.service, names.ENVIRONMENT: segment.environment}


class CountedSegments:
    """Attributes for counters: the first `limit` segments keep their own, all further ones share `other`.

    The SDK remembers every set of attributes that a counter was ever given, so a place is kept for life. Thread-safe.
    """

    def __init__(self, limit: int) -> None:
        self._shared = {names.TENANT: OTHER, names.SERVICE: OTHER, names.ENVIRONMENT: OTHER}
        self._limit = limit
        self._known: dict[Segment, dict[str, str]] = {}
        self._lock = threading.Lock()

    def of(self, segment: Segment) -> dict[str, str]:
        """The attributes under which this segment is counted."""
        known = self._known.get(segment)
        if known is not None:
            return known
        with self._lock:
            if len(self._known) >= self._limit:
                return self._known.get(segment, self._shared)
            return self._known.setdefault(segment, attributes_of(segment))


_Further = tuple[tuple[str, str], ...]
"""Attributes beside the segment's."""


@dataclass(frozen=True, slots=True)
class _Said:
    at: float
    values: Mapping[_Further, float]


class SegmentGauge:
    """A gauge of each of at most `max_segments` segments that were spoken of lately.

    A segment that falls silent ends its series and gives its place to another; past the limit there is none, because
    many segments' last values under one name would be noise. Thread-safe.

    Args:
        meter: that it belongs to.
        name, unit, description: of the metric.
        max_segments: with series of their own at a time.
        stale_seconds: a segment that was not spoken of for so long is silent.
        clock: seconds, from any origin, that never go back.
    """

    def __init__(
        self,
        meter: Meter,
        name: str,
        unit: str,
        description: str,
        *,
        max_segments: int = MAX_SEGMENTS,
        stale_seconds: float = STALE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = max_segments
        self._stale = stale_seconds
        self._clock = clock
        self._said: dict[Segment, _Said] = {}
        self._lock = threading.Lock()
        meter.create_observable_gauge(name, [self._observe], unit, description)

    def set(self, segment: Segment, values: Mapping[str, float] | float, *, by: str = "") -> None:
        """Say how a segment stands now; what was said of it before is forgotten.

        Args:
            segment: whose value it is.
            values: one value, or one for each word of the attribute `by`.
            by: name of a further attribute, of which there are few words.
        """
        given: dict[_Further, float] = {}
        if isinstance(values, Mapping):
            given = {((by, word),): value for word, value in values.items()}
        else:
            given[()] = values
        with self._lock:
            self._forget_silent()
            if segment in self._said or len(self._said) < self._limit:
                self._said[segment] = _Said(at=self._clock(), values=given)

    def _observe(self, _options: CallbackOptions) -> Iterator[Observation]:
        with self._lock:
            self._forget_silent()
            told = [
                Observation(value, {**attributes_of(segment), **dict(further)})
                for segment, said in self._said.items()
                for further, value in said.values.items()
            ]
        yield from told

    def _forget_silent(self) -> None:
        oldest = self._clock() - self._stale
        silent = [segment for segment, said in self._said.items() if said.at < oldest]
        for segment in silent:
            del self._said[segment]
