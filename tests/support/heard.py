"""A process's telemetry, kept in memory."""

from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from monitor.telemetry.setup import Telemetry


class Heard:
    """What was told to `telemetry`: events, and metrics by name."""

    def __init__(self) -> None:
        self.events = InMemoryLogRecordExporter()
        self.reader = InMemoryMetricReader()
        loggers = LoggerProvider(shutdown_on_exit=False)
        loggers.add_log_record_processor(SimpleLogRecordProcessor(self.events))
        self.telemetry = Telemetry(
            meter_provider=MeterProvider([self.reader], shutdown_on_exit=False),
            logger_provider=loggers,
            tracer_provider=TracerProvider(shutdown_on_exit=False),
        )

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Attributes and value of each point of each metric."""
        data: Any = self.reader.get_metrics_data()
        return {
            metric.name: [(dict(point.attributes), point.value) for point in metric.data.data_points]
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
        }
