"""What the pool worker tells telemetry: today's traffic, and nothing of replays but that its queue moved."""

from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from monitor.services.pool import Revised
from monitor.storage.escalations import Escalation
from monitor.telemetry.setup import Telemetry
from tests.examples.assessments import NOON, POOL, assessment, judgement, verdict
from workers.pool import _Observer


class Heard:
    """Telemetry that stays in memory."""

    def __init__(self) -> None:
        self._events, self._reader = InMemoryLogRecordExporter(), InMemoryMetricReader()
        logs = LoggerProvider(shutdown_on_exit=False)
        logs.add_log_record_processor(SimpleLogRecordProcessor(self._events))
        self.telemetry = Telemetry(
            meter_provider=MeterProvider([self._reader], shutdown_on_exit=False),
            logger_provider=logs,
            tracer_provider=TracerProvider(shutdown_on_exit=False),
        )

    @property
    def events(self) -> int:
        return len(self._events.get_finished_logs())

    @property
    def metrics(self) -> set[str]:
        data: Any = self._reader.get_metrics_data()
        return {
            metric.name for each in data.resource_metrics for scope in each.scope_metrics for metric in scope.metrics
        }


@pytest.mark.parametrize(("replay_id", "events"), [(None, 1), (7, 0)])
def test_replayed_verdicts_are_no_traffic(replay_id: int | None, events: int) -> None:
    heard = Heard()
    said = assessment(0, escalated=True)
    said = replace(said, origin=replace(said.origin, replay_id=replay_id))
    escalation = Escalation(id=1, assessment=said, attempts=1, claims=1, waited_since=NOON)
    observe = _Observer(heard.telemetry)
    observe(Revised(escalation=escalation, judgement=judgement(POOL), outcome=verdict(0.9, by=POOL)))
    assert heard.events == events
    assert "groundwatch.escalations" in heard.metrics
    assert ("groundwatch.judge.duration" in heard.metrics) == bool(events)
