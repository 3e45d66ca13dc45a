from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from monitor.telemetry import names
from monitor.telemetry.checks import CheckInstruments


def test_checks_are_counted_by_what_became_of_them_and_timed() -> None:
    reader = InMemoryMetricReader()
    instruments = CheckInstruments(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))
    instruments.answered(outcome="verdict", detail="faithful", seconds=0.004)
    instruments.answered(outcome="incomplete", detail="hallucinated", seconds=0.3)
    instruments.answered(outcome="could_not_judge", detail="no_documents", seconds=0.001)
    instruments.answered(outcome="no_verdict_in_time", detail=None, seconds=0.5)
    instruments.answered(outcome="refused", detail="busy", seconds=0.001)

    data: Any = reader.get_metrics_data()
    points = {metric.name: metric.data.data_points for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert {tuple(sorted(point.attributes.items())): point.value for point in points[names.CHECKS]} == {
        ((names.LABEL, "faithful"), (names.OUTCOME, "verdict")): 1,
        ((names.LABEL, "hallucinated"), (names.OUTCOME, "incomplete")): 1,
        ((names.OUTCOME, "could_not_judge"), (names.REASON, "no_documents")): 1,
        ((names.OUTCOME, "no_verdict_in_time"),): 1,
        ((names.OUTCOME, "refused"), (names.REASON, "busy")): 1,
    }
    timed = {point.attributes[names.OUTCOME]: point.sum for point in points[names.CHECK_DURATION]}
    assert timed["incomplete"] == 0.3
    assert len(timed) == 5
