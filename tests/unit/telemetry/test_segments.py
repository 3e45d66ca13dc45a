"""Gauges that end when nobody speaks of their segment."""

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from monitor.domain.trace import Segment
from monitor.telemetry.segments import SegmentGauge


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def made(max_segments: int = 2) -> tuple[SegmentGauge, Clock, InMemoryMetricReader]:
    reader, clock = InMemoryMetricReader(), Clock()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    gauge = SegmentGauge(meter, "g", "1", "A gauge.", max_segments=max_segments, stale_seconds=60, clock=clock)
    return gauge, clock, reader


def segment(service: str) -> Segment:
    return Segment(tenant="acme", service=service, environment="production")


def told(reader: InMemoryMetricReader) -> dict[str, float]:
    data: Any = reader.get_metrics_data()
    metrics = data.resource_metrics[0].scope_metrics[0].metrics if data and data.resource_metrics else []
    return {
        point.attributes["groundwatch.service"]: point.value for metric in metrics for point in metric.data.data_points
    }


def test_the_last_value_is_told_at_each_collection_until_the_segment_is_silent() -> None:
    gauge, clock, reader = made()
    gauge.set(segment("a"), 1.0)
    gauge.set(segment("a"), 2.0)
    clock.now = 60
    assert told(reader) == told(reader) == {"a": 2.0}
    gauge.set(segment("b"), 3.0)
    clock.now = 61
    assert told(reader) == {"b": 3.0}


def test_a_silent_segment_gives_its_place_to_another() -> None:
    gauge, clock, reader = made(max_segments=2)
    for name in ("a", "b", "c"):
        gauge.set(segment(name), 1.0)
    assert set(told(reader)) == {"a", "b"}
    clock.now = 50
    gauge.set(segment("b"), 2.0)
    clock.now = 100
    gauge.set(segment("c"), 3.0)
    assert told(reader) == {"b": 2.0, "c": 3.0}
