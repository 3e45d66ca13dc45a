"""groundwatch's own OpenTelemetry: providers for one process, and their orderly end.

Nothing is registered globally: whoever emits is handed what it needs. Without an endpoint the same instruments exist
and go nowhere.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Meter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

from monitor import __version__
from monitor.config import TelemetrySettings
from monitor.telemetry import names
from monitor.telemetry.evaluation import AlertEvents, EvaluationEvents
from monitor.telemetry.instruments import Instruments

logger = logging.getLogger(__name__)

_EXPORT_SECONDS = 10.0
_EVENT_DELAY_MILLIS = 1000


class Telemetry:
    """What one process emits through.

    Attributes:
        meter: of metrics that one process has alone.
        instruments: the metrics of all.
        evaluations: `gen_ai.evaluation.result` events.
        alerts: `groundwatch.alert.transition` events.
        tracer: spans of our own work.
    """

    def __init__(
        self, *, meter_provider: MeterProvider, logger_provider: LoggerProvider, tracer_provider: TracerProvider
    ) -> None:
        self._meter_provider = meter_provider
        self._logger_provider = logger_provider
        self._tracer_provider = tracer_provider
        self.meter: Meter = meter_provider.get_meter(names.SCOPE, __version__)
        self.instruments = Instruments(self.meter)
        events = logger_provider.get_logger(names.SCOPE, __version__)
        self.evaluations = EvaluationEvents(events)
        self.alerts = AlertEvents(events)
        self.tracer: Tracer = tracer_provider.get_tracer(names.SCOPE, __version__)

    def shutdown(self, timeout_seconds: float = 5.0) -> bool:
        """Export what is left and stop; True when all of it was handed over in time.

        Never raises and never takes longer: a collector that is away must not keep a worker from stopping.
        """
        deadline = time.monotonic() + timeout_seconds
        steps: tuple[Callable[[], object], ...] = (
            # Longer than is waited: ending by its own timeout just in time would look like success.
            lambda: self._meter_provider.shutdown(timeout_millis=timeout_seconds * 2000),
            self._logger_provider.shutdown,
            self._tracer_provider.shutdown,
        )
        threads = [threading.Thread(target=_quietly, args=(step,), daemon=True) for step in steps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)


def setup_telemetry(settings: TelemetrySettings, service_name: str) -> Telemetry:
    """Telemetry for this process, exported by OTLP/HTTP where settings name an endpoint.

    Args:
        settings: where to, and how often.
        service_name: `service.name` of the process, such as `groundwatch-ledger`.
    """
    resource = Resource.create(
        {
            names.SERVICE_NAME: service_name,
            names.SERVICE_VERSION: __version__,
            names.SERVICE_INSTANCE_ID: f"{socket.gethostname()}-{os.getpid()}",
        }
    )
    readers: list[MetricReader] = []
    loggers = LoggerProvider(resource, shutdown_on_exit=False)
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if settings.otlp_endpoint:
        base = settings.otlp_endpoint.rstrip("/")
        readers.append(
            PeriodicExportingMetricReader(
                OTLPMetricExporter(f"{base}/v1/metrics", timeout=_EXPORT_SECONDS),
                export_interval_millis=settings.export_interval_seconds * 1000,
                export_timeout_millis=_EXPORT_SECONDS * 1000,
            )
        )
        loggers.add_log_record_processor(
            BatchLogRecordProcessor(
                OTLPLogExporter(f"{base}/v1/logs", timeout=_EXPORT_SECONDS), schedule_delay_millis=_EVENT_DELAY_MILLIS
            )
        )
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{base}/v1/traces", timeout=_EXPORT_SECONDS)))
    return Telemetry(
        meter_provider=MeterProvider(readers, resource, shutdown_on_exit=False),
        logger_provider=loggers,
        tracer_provider=tracers,
    )


def _quietly(step: Callable[[], object]) -> None:
    try:
        step()
    except Exception as error:  # noqa: BLE001 - the SDK raises bare Exception; the process is ending either way
        logger.warning("telemetry did not shut down cleanly: %s", error)
