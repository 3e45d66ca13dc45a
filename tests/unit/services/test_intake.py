from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from monitor.ingest.assembler import AssemblyState
from monitor.ingest.counters import Denial, Drop, Refusal
from monitor.ingest.spool_records import SpoolState
from monitor.services.intake import FeedbackTelemetry, IntakeTelemetry, assembly_reading, spool_readings
from monitor.telemetry import names
from monitor.telemetry.instruments import Instruments
from monitor.telemetry.sidecar import SidecarInstruments

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def metrics_of(reader: InMemoryMetricReader) -> dict[str, Any]:
    data: Any = reader.get_metrics_data()
    return {metric.name: metric.data.data_points for metric in data.resource_metrics[0].scope_metrics[0].metrics}


def test_counts_of_feedback_are_metrics_of_their_own() -> None:
    reader = InMemoryMetricReader()
    counters = FeedbackTelemetry(Instruments(MeterProvider([reader], shutdown_on_exit=False).get_meter("test")))
    counters.accepted(10)
    counters.refused(Refusal.INVALID, field="thumb")
    counters.forwarded(3)
    counters.set_aside(1)
    counters.retried()
    data: Any = reader.get_metrics_data()
    metrics = {metric.name: metric.data.data_points for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert {
        (point.attributes[names.OUTCOME], point.attributes.get(names.REASON)): point.value
        for point in metrics[names.FEEDBACK]
    } == {("accepted", None): 10, ("refused", "invalid"): 1, ("forwarded", None): 3, ("set_aside", None): 1}
    assert set(metrics) == {names.FEEDBACK, names.INTAKE_RETRIES}


def test_the_sidecars_counts_become_metrics() -> None:
    reader = InMemoryMetricReader()
    counters = IntakeTelemetry(Instruments(MeterProvider([reader], shutdown_on_exit=False).get_meter("test")))
    counters.accepted(10)
    counters.refused(Refusal.TOO_LARGE, field="answer")
    counters.forwarded(3)
    counters.set_aside(1)
    counters.dropped(Drop.SAMPLED_OUT, 1)
    counters.dropped(Drop.TOO_OLD, 40)
    counters.dropped(Drop.TOO_OLD, 2)
    counters.retried()
    counters.denied(Denial.EXPIRED)
    metrics = metrics_of(reader)
    assert {
        (point.attributes[names.OUTCOME], point.attributes.get(names.REASON)): point.value
        for point in metrics[names.INTAKE]
    } == {
        ("accepted", None): 10,
        ("refused", "too_large"): 1,
        ("forwarded", None): 3,
        ("set_aside", None): 1,
        ("dropped", "sampled_out"): 1,
        ("dropped", "too_old"): 42,
    }
    assert [point.value for point in metrics[names.INTAKE_RETRIES]] == [1]
    assert [(point.attributes, point.value) for point in metrics[names.ACCESS_REFUSED]] == [
        ({names.REASON: "expired"}, 1)
    ]


def test_what_stands_and_waits_is_asked_for_at_each_export() -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    waiting = SpoolState(
        records=7, bytes=9000, max_bytes=10**6, aside=0, oldest=NOON - timedelta(minutes=5), problem=None
    )
    spools = {"traces": waiting, "exports": replace(waiting, records=0, bytes=8192, oldest=None)}
    state = AssemblyState(
        open=3,
        waiting_bytes=512,
        assembled=10,
        not_rag=4,
        late_spans=2,
        completed={"ended": 12, "idle": 1, "limit": 0, "memory": 1},
    )
    SidecarInstruments(
        meter,
        spools=lambda: spool_readings(spools, now=NOON),
        assembly=lambda: assembly_reading(state),
    )

    def told(name: str, by: str | None = None) -> dict[Any, Any]:
        return {point.attributes.get(by): point.value for point in metrics_of(reader)[name]}

    assert told(names.SPOOL_SIZE, names.SPOOL) == {"traces": 9000, "exports": 8192}
    assert told(names.SPOOL_RECORDS, names.SPOOL) == {"traces": 7, "exports": 0}
    assert told(names.SPOOL_OLDEST, names.SPOOL) == {"traces": 300.0, "exports": 0.0}
    assert told(names.ASSEMBLY_OPEN) == {None: 3}
    assert told(names.ASSEMBLY_SIZE) == {None: 512}
    assert told(names.ASSEMBLY_LATE) == {None: 2}
    assert told(names.ASSEMBLY_TRACES, names.OUTCOME) == {"assembled": 10, "not_rag": 4}
    assert told(names.ASSEMBLY_COMPLETED, names.REASON) == {"ended": 12, "idle": 1, "limit": 0, "memory": 1}
    spools["traces"] = replace(waiting, records=8)
    state = replace(state, open=0)
    assert told(names.SPOOL_RECORDS, names.SPOOL)["traces"] == 8
    assert told(names.ASSEMBLY_OPEN) == {None: 0}


def test_a_wall_clock_that_was_set_back_gives_no_negative_age() -> None:
    later = SpoolState(records=1, bytes=1, max_bytes=9, aside=0, oldest=NOON + timedelta(hours=1), problem=None)
    (reading,) = spool_readings({"traces": later}, now=NOON)
    assert reading.oldest_seconds == 0.0


def test_requests_are_told_as_the_semantic_conventions_have_it() -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    nothing = AssemblyState(open=0, waiting_bytes=0, assembled=0, not_rag=0, late_spans=0, completed={})
    instruments = SidecarInstruments(meter, spools=list, assembly=lambda: assembly_reading(nothing))
    for status, seconds in ((202, 0.004), (202, 0.2), (503, 10.0)):
        instruments.answered(method="POST", route="/v1/rag/traces", status=status, scheme="http", seconds=seconds)
    instruments.answered(method="_OTHER", route=None, status=404, scheme="https", seconds=0.001)
    points = metrics_of(reader)["http.server.request.duration"]
    counted = {
        (point.attributes.get("http.route"), point.attributes["http.response.status_code"]): (point.count, point.sum)
        for point in points
    }
    assert counted == {
        ("/v1/rag/traces", 202): (2, pytest.approx(0.204)),
        ("/v1/rag/traces", 503): (1, 10.0),
        (None, 404): (1, 0.001),
    }
    assert points[0].explicit_bounds[0] == 0.001
