"""The drift worker: watches every segment's hallucination rate, and tells the rates as metrics."""

import threading
from datetime import UTC, datetime

from monitor.config import Settings
from monitor.services.drift import DriftWatch
from monitor.services.rate_metrics import RateMetrics
from monitor.services.stopping import StopOnSignals
from monitor.storage.engine import create_ledger_engine
from monitor.telemetry.setup import setup_telemetry


def run(settings: Settings) -> int:
    """Watch until SIGTERM or SIGINT; returns the exit code."""
    stop = StopOnSignals()
    telemetry = setup_telemetry(settings.telemetry, "groundwatch-drift")
    # One connection for each of the two: neither waits for the other.
    engine = create_ledger_engine(settings.postgres, application_name="groundwatch-drift", pool_size=2)
    rates = RateMetrics(engine, settings.rates, telemetry.instruments, clock=_now)
    # A question under way ends with the process; Postgres cancels what nobody waits for.
    telling = threading.Thread(target=rates.run, args=(stop,), name="rates", daemon=True)
    try:
        pool = bool(settings.pool.url or settings.pool.urls)
        watch = DriftWatch(engine, settings.drift, telemetry, alerts=settings.alerts, clock=_now, pool=pool)
        telling.start()
        watch.run(stop)
    finally:
        engine.dispose()
        telemetry.shutdown()
    return 0


def _now() -> datetime:
    return datetime.now(UTC)
