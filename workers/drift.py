"""The drift worker: watches every segment's hallucination rate."""

from datetime import UTC, datetime

from monitor.config import Settings
from monitor.services.drift import DriftWatch
from monitor.services.stopping import StopOnSignals
from monitor.storage.engine import create_ledger_engine
from monitor.telemetry.setup import setup_telemetry


def run(settings: Settings) -> int:
    """Watch until SIGTERM or SIGINT; returns the exit code."""
    stop = StopOnSignals()
    telemetry = setup_telemetry(settings.telemetry, "groundwatch-drift")
    engine = create_ledger_engine(settings.postgres, application_name="groundwatch-drift", pool_size=1)
    try:
        pool = bool(settings.pool.url or settings.pool.urls)
        watch = DriftWatch(
            engine, settings.drift, telemetry, alerts=settings.alerts, clock=lambda: datetime.now(UTC), pool=pool
        )
        watch.run(stop)
    finally:
        engine.dispose()
        telemetry.shutdown()
    return 0
