"""What arrives at a real OTLP/HTTP receiver."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from monitor.config import TelemetrySettings
from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.trace import Document, Origin, Trace
from monitor.domain.verdict import FAITHFULNESS, Action, Assessment, Decision, Label, Verdict
from monitor.telemetry.setup import setup_telemetry
from tests.support.telemetry_collectors import Collector, collecting

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    with collecting() as (taken, url):
        yield taken, f"{url}/"


def test_verdicts_and_metrics_arrive_over_otlp(collector: tuple[Collector, str]) -> None:
    taken, endpoint = collector
    telemetry = setup_telemetry(TelemetrySettings(otlp_endpoint=endpoint), "groundwatch-ledger")
    trace = Trace(
        trace_id="t-1",
        event_time=NOON,
        tenant="acme",
        service="qa",
        environment="production",
        question="q",
        documents=(Document(id="d", text="text"),),
        answer="a",
        otel_trace_id="0af7651916cd43dd8448eb211c80319c",
        otel_span_id="b7ad6b7169203331",
    )
    assessment = Assessment(
        trace=trace,
        origin=Origin(topic="rag.traces.v1", partition=0, offset=7),
        evaluator=FAITHFULNESS,
        judge_version="cascade@abc",
        judgements=(),
        outcome=Verdict(label=Label.HALLUCINATED, probability=0.75),
        decision=Decision(action=Action.ACCEPT, reason="sure", inclusion_probability=0.02),
        judged_at=NOON,
    )
    telemetry.evaluations.emit(assessment)
    telemetry.instruments.assessed(assessment)
    telemetry.instruments.dead_letter(DeadLetterReason.NOT_JSON)
    assert telemetry.shutdown(timeout_seconds=20)

    (logs,) = taken.logs
    (resource_logs,) = logs.resource_logs
    resource = {item.key: item.value.string_value for item in resource_logs.resource.attributes}
    assert resource["service.name"] == "groundwatch-ledger"
    (record,) = resource_logs.scope_logs[0].log_records
    assert record.event_name == "gen_ai.evaluation.result"
    assert record.trace_id.hex() == trace.otel_trace_id
    assert record.span_id.hex() == trace.otel_span_id
    score = {item.key: item.value.double_value for item in record.attributes}["gen_ai.evaluation.score.value"]
    assert score == 0.25

    sent = {
        metric.name
        for request in taken.metrics
        for resource_metrics in request.resource_metrics
        for scope in resource_metrics.scope_metrics
        for metric in scope.metrics
    }
    assert {"groundwatch.traces", "groundwatch.verdicts", "groundwatch.dead_letters"} <= sent
