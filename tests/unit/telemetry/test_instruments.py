"""Metrics, read back from the SDK's own in-memory reader."""

from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Judgement, Opinion, Tier, Unjudgeable
from monitor.domain.rate import Rate
from monitor.domain.trace import Origin, Segment, Trace
from monitor.domain.verdict import FAITHFULNESS, Action, Assessment, Decision, Label, Verdict
from monitor.telemetry.instruments import Instruments

QA = Segment(tenant="acme", service="qa", environment="production")
SCREEN = JudgeIdentity(name="screen", tier=Tier.SCREEN, model="screen.onnx", model_digest="00")


class Metrics:
    def __init__(self, max_segments: int = 200) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.instruments = Instruments(self.provider.get_meter("test"), max_segments=max_segments)

    def points(self, name: str) -> list[Any]:
        data: Any = self._reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else []
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    def values(self, name: str, *by: str) -> dict[tuple[Any, ...], Any]:
        return {tuple(point.attributes.get(key) for key in by): point.value for point in self.points(name)}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def assessment(outcome: Verdict | CouldNotJudge, *, action: Action = Action.ACCEPT) -> Assessment:
    trace = Trace(
        trace_id="t-1",
        event_time=datetime(2026, 1, 1, tzinfo=UTC),
        tenant="acme",
        service="qa",
        environment="production",
        question="q",
        documents=(),
        answer="a",
    )
    judgement = Judgement(
        judge=SCREEN,
        result=Opinion(raw_score=0.0),
        probability=0.5,
        latency_seconds=0.004,
        inclusion_probability=1.0,
        chosen_because="all",
    )
    return Assessment(
        trace=trace,
        origin=Origin(topic="t", partition=0, offset=0),
        evaluator=FAITHFULNESS,
        judge_version="cascade@abc",
        judgements=(judgement,),
        outcome=outcome,
        decision=Decision(action=action, reason="sure", inclusion_probability=1.0),
        judged_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_each_assessment_is_counted_by_what_became_of_it(metrics: Metrics) -> None:
    unjudged = CouldNotJudge(reason=Unjudgeable.TOO_LONG)
    for outcome, action in (
        (Verdict(label=Label.FAITHFUL, probability=0.1), Action.ACCEPT),
        (Verdict(label=Label.HALLUCINATED, probability=0.9), Action.ESCALATE),
        (unjudged, Action.ACCEPT),
        (unjudged, Action.ESCALATE),
        (unjudged, Action.ESCALATE),
    ):
        metrics.instruments.assessed(assessment(outcome, action=action))
    assert metrics.values("groundwatch.traces", "groundwatch.outcome", "groundwatch.reason") == {
        ("verdict", None): 2,
        ("unjudged", "too_long"): 1,
        ("pending", "too_long"): 2,
    }
    assert metrics.values("groundwatch.verdicts", "groundwatch.service", "groundwatch.label") == {
        ("qa", "faithful"): 1,
        ("qa", "hallucinated"): 1,
    }
    (duration,) = metrics.points("groundwatch.judge.duration")
    assert (duration.count, dict(duration.attributes)) == (
        5,
        {"groundwatch.tier": "screen", "groundwatch.outcome": "judged"},
    )
    assert duration.sum == pytest.approx(0.02)
    assert duration.explicit_bounds[0] == 0.0005


def test_segments_past_the_limit_share_one_series() -> None:
    metrics = Metrics(max_segments=2)
    for name in ("a", "b", "c", "d", "a"):
        segment = Segment(tenant="acme", service=name, environment="production")
        metrics.instruments.late_verdicts(segment, 1)
        metrics.instruments.evidence(segment, 0.5, threshold=9.9)
    assert metrics.values("groundwatch.drift.late_verdicts", "groundwatch.service") == {
        ("a",): 2,
        ("b",): 1,
        ("other",): 2,
    }
    # A last value of several segments would mean nothing, so gauges have no series `other`.
    assert set(metrics.values("groundwatch.drift.evidence", "groundwatch.service")) == {("a",), ("b",)}


def test_rates_are_told_by_method_with_their_intervals(metrics: Metrics) -> None:
    raw, powered = Rate(value=0.2, low=0.1, high=0.3, n=9), Rate(value=0.1, low=0.05, high=0.15, n=9)
    metrics.instruments.rates(QA, {"raw": raw, "powered": powered})
    by = ("groundwatch.service", "groundwatch.rate.method")
    assert metrics.values("groundwatch.hallucination.rate", *by) == {("qa", "raw"): 0.2, ("qa", "powered"): 0.1}
    assert metrics.values("groundwatch.hallucination.rate.low", *by) == {("qa", "raw"): 0.1, ("qa", "powered"): 0.05}
    assert metrics.values("groundwatch.hallucination.rate.high", *by) == {("qa", "raw"): 0.3, ("qa", "powered"): 0.15}
    # What can be had no longer is not told any more.
    metrics.instruments.rates(QA, {"raw": raw})
    assert metrics.values("groundwatch.hallucination.rate", *by) == {("qa", "raw"): 0.2}


def test_every_other_metric(metrics: Metrics) -> None:
    instruments = metrics.instruments
    instruments.dead_letter(DeadLetterReason.NOT_JSON)
    instruments.escalated("queued", 3)
    instruments.escalations_waiting(2)
    instruments.queue_lag("rag.traces.v1", 12)
    instruments.evidence(QA, 1.5, threshold=9.9)
    instruments.coverage(QA, judged=0.9, escalated=0.25)
    instruments.delivery("webhook", "failed")
    found = {
        name: next(iter(metrics.values(f"groundwatch.{name}").values()))
        for name in (
            "dead_letters",
            "escalations",
            "escalations.waiting",
            "queue.lag",
            "drift.evidence",
            "drift.threshold",
            "coverage",
            "escalation.share",
            "alert.deliveries",
        )
    }
    assert list(found.values()) == [1, 3, 2, 12, 1.5, 9.9, 0.9, 0.25, 1]


def test_the_accounting_is_told_by_outcome(metrics: Metrics) -> None:
    metrics.instruments.accounting({"accepted": 10, "verdicts": 9, "in_flight": 1, "lost": 0})
    assert metrics.values("groundwatch.accounting", "groundwatch.outcome") == {
        ("accepted",): 10,
        ("verdicts",): 9,
        ("in_flight",): 1,
        ("lost",): 0,
    }


def test_calls_to_the_pool_are_told_by_server_and_never_by_tenant(metrics: Metrics) -> None:
    metrics.instruments.pool_called("gpu-1:8000", "first", "busy")
    metrics.instruments.pool_called("gpu-1:8000", "retry", "answered")
    metrics.instruments.pool_spent(prompt=100, cached=60, completion=5, usd=0.25)
    metrics.instruments.pool_spent(prompt=0, cached=0, completion=0, usd=0.0)
    metrics.instruments.pool_server("gpu-1:8000", permits=4, circuit_open=True)
    assert metrics.values("groundwatch.pool.calls", "groundwatch.attempt", "groundwatch.outcome") == {
        ("first", "busy"): 1,
        ("retry", "answered"): 1,
    }
    kinds = metrics.values("groundwatch.pool.tokens", "groundwatch.token.kind")
    assert kinds == {("prompt",): 40, ("cached_prompt",): 60, ("completion",): 5}
    assert metrics.values("groundwatch.pool.cost") == {(): 0.25}
    assert metrics.values("groundwatch.pool.concurrency", "groundwatch.endpoint") == {("gpu-1:8000",): 4}
    assert metrics.values("groundwatch.pool.circuit_open", "groundwatch.endpoint") == {("gpu-1:8000",): 1}
