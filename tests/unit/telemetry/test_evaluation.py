"""Events, read back from the SDK's own in-memory exporter."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import use_span

from monitor.domain.alert import Alarm, Alert, AlertState, Direction, Severity
from monitor.domain.judgement import CouldNotJudge, Unjudgeable, UnsupportedSpan
from monitor.domain.trace import Document, Origin, Segment, Trace
from monitor.domain.verdict import FAITHFULNESS, Action, Assessment, Decision, Label, Verdict
from monitor.telemetry.evaluation import MAX_EXPLANATION, AlertEvents, EvaluationEvents

NOON = datetime(2026, 1, 1, 12, 0, 0, 123_457, tzinfo=UTC)
OTEL_TRACE, OTEL_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exporter() -> InMemoryLogRecordExporter:
    return InMemoryLogRecordExporter()


@pytest.fixture
def events(exporter: InMemoryLogRecordExporter) -> Any:
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    return provider.get_logger("test")


def assessment(outcome: Verdict | CouldNotJudge | None = None, **trace: Any) -> Assessment:
    fields: dict[str, Any] = {
        "trace_id": "t-1",
        "event_time": NOON,
        "tenant": "acme",
        "service": "qa",
        "environment": "production",
        "question": "q",
        "documents": (Document(id="d", text="text"),),
        "answer": "a",
        "otel_trace_id": OTEL_TRACE,
        "otel_span_id": OTEL_SPAN,
    }
    return Assessment(
        trace=Trace(**fields | trace),
        origin=Origin(topic="rag.traces.v1", partition=0, offset=7),
        evaluator=FAITHFULNESS,
        judge_version="cascade@abc",
        judgements=(),
        outcome=outcome or Verdict(label=Label.HALLUCINATED, probability=0.75),
        decision=Decision(action=Action.ACCEPT, reason="sure", inclusion_probability=0.02),
        judged_at=NOON,
    )


def only(exporter: InMemoryLogRecordExporter) -> Any:
    (record,) = exporter.get_finished_logs()
    return record.log_record


def test_a_verdict_is_an_event_of_the_judged_span(events: Any, exporter: InMemoryLogRecordExporter) -> None:
    assert EvaluationEvents(events).emit(assessment())
    record = only(exporter)
    assert record.event_name == "gen_ai.evaluation.result"
    assert record.trace_id == int(OTEL_TRACE, 16)
    assert record.span_id == int(OTEL_SPAN, 16)
    assert record.timestamp == 1_767_268_800_123_457_000
    assert dict(record.attributes) == {
        "gen_ai.evaluation.name": "faithfulness",
        "gen_ai.evaluation.score.value": 0.25,
        "gen_ai.evaluation.score.label": "hallucinated",
        "groundwatch.judge.version": "cascade@abc",
        "groundwatch.trace.id": "t-1",
        "groundwatch.tenant": "acme",
        "groundwatch.service": "qa",
        "groundwatch.environment": "production",
    }


@pytest.mark.parametrize(
    "ids",
    [
        {"otel_trace_id": None, "otel_span_id": None},
        {"otel_trace_id": OTEL_TRACE, "otel_span_id": None},
        {"otel_trace_id": "0" * 32, "otel_span_id": "0" * 16},
    ],
)
def test_without_a_judged_span_it_has_no_parent_not_even_the_current_span(
    ids: dict[str, str | None], events: Any, exporter: InMemoryLogRecordExporter
) -> None:
    ours = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("ledger batch")
    with use_span(ours):
        EvaluationEvents(events).emit(assessment(**ids))
    assert (only(exporter).trace_id, only(exporter).span_id) == (0, 0)


def test_what_could_not_be_judged_has_an_error_type_and_no_score(
    events: Any, exporter: InMemoryLogRecordExporter
) -> None:
    outcome = CouldNotJudge(reason=Unjudgeable.NO_DOCUMENTS, detail="nothing was retrieved")
    assert EvaluationEvents(events).emit(assessment(outcome))
    attributes = only(exporter).attributes
    assert attributes["error.type"] == "no_documents"
    assert attributes["gen_ai.evaluation.explanation"] == "nothing was retrieved"
    assert not any(name.startswith("gen_ai.evaluation.score") for name in attributes)


def test_an_escalated_trace_without_a_verdict_says_nothing_yet(
    events: Any, exporter: InMemoryLogRecordExporter
) -> None:
    pending = replace(
        assessment(CouldNotJudge(reason=Unjudgeable.UNCALIBRATED)),
        decision=Decision(action=Action.ESCALATE, reason="unjudged", inclusion_probability=1.0),
    )
    assert not EvaluationEvents(events).emit(pending)
    assert exporter.get_finished_logs() == ()


@pytest.mark.parametrize(
    ("verdict", "explanation"),
    [
        (Verdict(label=Label.FAITHFUL, probability=0.1), None),
        (Verdict(label=Label.FAITHFUL, probability=0.1, reasoning="all there"), "all there"),
        (Verdict(label=Label.HALLUCINATED, probability=0.9, reasoning="x" * 9000), "x" * MAX_EXPLANATION),
        (
            Verdict(label=Label.HALLUCINATED, probability=0.9, unsupported=(UnsupportedSpan(start=0, end=1, score=1),)),
            "1 span of the answer without support in the documents",
        ),
    ],
)
def test_the_explanation(
    verdict: Verdict, explanation: str | None, events: Any, exporter: InMemoryLogRecordExporter
) -> None:
    EvaluationEvents(events).emit(assessment(verdict))
    assert only(exporter).attributes.get("gen_ai.evaluation.explanation") == explanation


@pytest.mark.parametrize(
    ("state", "severity", "shown"),
    [
        (AlertState.PENDING, Severity.CRITICAL, "INFO"),
        (AlertState.FIRING, Severity.WARNING, "WARN"),
        (AlertState.FIRING, Severity.CRITICAL, "ERROR"),
        (AlertState.RESOLVED, Severity.CRITICAL, "INFO"),
    ],
)
def test_an_alert_is_an_event_with_a_severity(
    state: AlertState, severity: Severity, shown: str, events: Any, exporter: InMemoryLogRecordExporter
) -> None:
    alarm = Alarm(
        event_time=NOON,
        change_at=NOON,
        change_earliest=NOON,
        change_latest=NOON,
        direction=Direction.RISE,
        evidence=10.1,
        rate_before=0.1,
        rate_after=0.3,
        verdicts_seen=900,
        delay_verdicts=80,
    )
    alert = Alert(
        alert_id="al-1",
        segment=Segment(tenant="acme", service="qa", environment="production"),
        evaluator=FAITHFULNESS,
        judge_version="cascade@abc",
        alarm=alarm,
        state=state,
        raised_at=NOON,
        average_run_length=20_000.0,
        severity=severity,
        reopened=1,
    )
    AlertEvents(events).emit(alert, at=NOON)
    record = only(exporter)
    assert (record.event_name, record.severity_text) == ("groundwatch.alert.transition", shown)
    assert record.body == (
        "hallucination rate of acme/qa/production: 10.0% before, 30.0% since 2026-01-01T12:00:00.123457+00:00"
    )
    assert record.attributes["groundwatch.alert.rate_after"] == 0.3
    assert record.attributes["groundwatch.alert.state"] == state.value
    assert record.attributes["groundwatch.alert.severity"] == severity.value
    assert record.attributes["groundwatch.alert.reopened"] == 1
