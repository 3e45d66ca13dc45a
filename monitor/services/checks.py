"""What a sidecar that answers checks has in its receiving process, composed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial

from monitor.config import Settings
from monitor.ingest.body import BodyReader
from monitor.ingest.callers import Gate
from monitor.ingest.check_api import CheckApi
from monitor.ingest.check_request import CheckLimits
from monitor.ingest.checker import Checker
from monitor.ingest.counters import IngestCounters
from monitor.services.checking import run_checks
from monitor.telemetry.checks import CheckInstruments
from monitor.telemetry.setup import Telemetry


@contextmanager
def checks(
    settings: Settings, *, gate: Gate, counters: IngestCounters, telemetry: Telemetry, body_seconds: float
) -> Iterator[CheckApi | None]:
    """The API, and the judging process behind it for as long as the context lasts; None where checks are off."""
    wanted = settings.check
    if not wanted.enabled:
        yield None
        return
    checker = Checker(partial(run_checks, settings), most_waiting=wanted.most_waiting)
    instruments = CheckInstruments(telemetry.meter)
    # Limits of their own: checks that are read must not keep traces from being read.
    bodies = BodyReader(
        max_bytes=wanted.most_bytes, max_total_bytes=wanted.most_waiting * wanted.most_bytes, seconds=body_seconds
    )
    api = CheckApi(
        checker,
        gate=gate,
        bodies=bodies,
        limits=CheckLimits(
            budget_milliseconds=wanted.budget_milliseconds,
            most_milliseconds=wanted.most_milliseconds,
            most_bytes=wanted.most_bytes,
        ),
        counters=counters,
        tell=lambda answered: instruments.answered(**asdict(answered)),
    )
    checker.start()
    try:
        yield api
    finally:
        checker.stop()
