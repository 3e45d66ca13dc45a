"""The honest rates as metrics, at a pace of their own; and the sums that all who ask for rates read them from."""

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from monitor.config import RateSettings
from monitor.domain.errors import LedgerUnavailable
from monitor.domain.rate import Rate
from monitor.domain.trace import Segment
from monitor.services.rates import SegmentRates, segment_rates
from monitor.services.stopping import Stop
from monitor.storage.engine import LedgerEngine
from monitor.storage.rates import count_coverage
from monitor.storage.trusted_hours import sum_up_trusted
from monitor.storage.weighing import weigh_rollups
from monitor.telemetry.instruments import Instruments

logger = logging.getLogger(__name__)

METHODS = ("raw", "corrected", "powered")


class RateMetrics:
    """Tells the rates of each segment's newest judge version.

    Args:
        engine: of the ledger; a slow question takes one of its connections until the statement timeout.
        settings: window and pace.
        instruments: told.
        clock: the time now, aware.
    """

    def __init__(
        self, engine: LedgerEngine, settings: RateSettings, instruments: Instruments, *, clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._instruments = instruments
        self._clock = clock

    def run(self, stop: Stop) -> None:
        """Step until told to stop. What cannot be read is not told; the gauges end, and nothing else waits for them."""
        while not stop.is_set():
            try:
                self.step()
            except LedgerUnavailable as error:
                logger.warning("the rates could not be read", extra={"error": str(error)})
            except Exception:
                # Runs beside drift detection, in a thread whose end nobody would see.
                logger.exception("the rates could not be told")
            stop.wait(self._settings.every_seconds)

    def step(self) -> None:
        """Sum up what is new, for whoever asks for rates until the next time; read all rates and tell them.

        Raises:
            LedgerUnavailable: Postgres is away, not migrated, or took longer than the statement timeout.
        """
        now = self._clock()
        since = now - timedelta(seconds=self._settings.window_seconds)
        skill_since = now - timedelta(days=self._settings.skill_days)
        weigh_rollups(self._engine, since=since)
        sum_up_trusted(self._engine, since=skill_since, until=now)
        for covered in _newest(count_coverage(self._engine, since=since, until=now)):
            if covered.traces:
                judged, escalated = covered.verdicts / covered.traces, covered.escalated / covered.traces
                self._instruments.coverage(covered.segment, judged=judged, escalated=escalated)
        for one in _newest(segment_rates(self._engine, since=since, until=now, skill_since=skill_since)):
            self._instruments.rates(one.segment, _known(one))
        # What a release before this one wrote: all of it the first time, which no gauge has to wait for.
        weigh_rollups(self._engine)


class _Dated(Protocol):
    @property
    def segment(self) -> Segment: ...
    @property
    def newest(self) -> datetime: ...


_Row = TypeVar("_Row", bound=_Dated)


def _newest(rows: Iterable[_Row]) -> Iterable[_Row]:
    """Of each segment the judge version that spoke last: a metric has no room for versions."""
    last: dict[Segment, _Row] = {}
    for row in rows:
        known = last.get(row.segment)
        if known is None or row.newest > known.newest:
            last[row.segment] = row
    return last.values()


def _known(one: SegmentRates) -> dict[str, Rate]:
    return {method: rate for method in METHODS if isinstance(rate := getattr(one, method), Rate)}
