"""Sampling over HTTP: what is left out is answered, counted and written nowhere; what is kept says how probably."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from monitor.ingest.counters import Tally
from monitor.ingest.sampling import Sampling
from monitor.ingest.treatment import NoTreatment, Treatment, Treatments
from monitor.routing.keeping import KeepingRule, is_kept
from monitor.wire import LEAST_SAMPLING_PROBABILITY
from tests.examples.assessments import trace as example
from tests.support.sidecars import LocalSidecar
from tests.unit.ingest.test_app import NOW, trace

PROTOBUF = {"content-type": "application/x-protobuf"}
Start = Callable[..., LocalSidecar]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[LocalSidecar] = []

    def make(probability: float, *rules: KeepingRule) -> LocalSidecar:
        def treatment(tally: Tally) -> Treatment:
            return Treatments(NoTreatment(), Sampling(probability, rules, counters=tally))

        sidecar = LocalSidecar(tmp_path / str(len(started)), now=lambda: NOW, max_batch=500, treatment=treatment)
        started.append(sidecar)
        return sidecar

    yield make
    for sidecar in started:
        sidecar.close()


def traces(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [trace(trace_id=f"req-{number}", **changes) for number in range(count)]


def expected(count: int, probability: float) -> list[str]:
    made = [example(f"req-{number}", tenant="acme", service="support-bot") for number in range(count)]
    return [one.trace_id for one in made if is_kept(one, probability)]


def test_two_sidecars_keep_the_same_and_say_what_they_left_out(start: Start) -> None:
    kept = expected(200, 0.3)
    assert 30 < len(kept) < 90
    for sidecar in (start(0.3), start(0.3)):
        answer = sidecar.post(traces(200))
        assert answer.status_code == 202
        body = answer.json()
        assert (body["accepted"], body["trace_ids"], body["rejected"]) == (len(kept), kept, [])
        assert set(body["sampled_out"]) == {f"req-{number}" for number in range(200)} - set(kept)
        assert [one["trace_id"] for one in sidecar.stored()] == kept
        assert {one["sampling_probability"] for one in sidecar.stored()} == {0.3}
        status = sidecar.client.get("/v1/status").json()
        assert (status["accepted"], status["dropped"]) == (len(kept), {"sampled_out": 200 - len(kept)})
        assert status["refused"] == {}


def test_a_request_that_is_left_out_wholly_is_no_error(start: Start) -> None:
    sidecar = start(0.0)
    answer = sidecar.post(traces(2))
    assert (answer.status_code, answer.json()) == (
        202,
        {"accepted": 0, "trace_ids": [], "sampled_out": ["req-0", "req-1"], "rejected": []},
    )
    assert sidecar.stored() == []


def test_a_bad_trace_is_rejected_and_not_sampled(start: Start) -> None:
    sidecar = start(0.0)
    answer = sidecar.post({**trace(), "answer": 7})
    assert answer.status_code == 422
    assert sidecar.client.get("/v1/status").json()["dropped"] == {}


def test_rules_by_tenant_service_and_environment(start: Start) -> None:
    sidecar = start(
        0.0, KeepingRule(environment="staging", probability=1.0), KeepingRule(tenant="acme", probability=0.3)
    )
    sidecar.post([*traces(100), *traces(5, environment="staging"), *traces(50, tenant="other")])
    stored = sidecar.stored()
    assert sum(one["environment"] == "staging" for one in stored) == 5
    assert [one["trace_id"] for one in stored if one["environment"] == "production"] == expected(100, 0.3)
    assert {one["environment"]: one["sampling_probability"] for one in stored} == {"staging": 1.0, "production": 0.3}
    assert {one["tenant"] for one in stored} == {"acme"}


def test_a_senders_own_probability_is_multiplied(start: Start) -> None:
    unsampled, sampled = start(1.0), start(0.5)
    sent = traces(100, sampling_probability=0.2)
    for sidecar in (unsampled, sampled):
        sidecar.post(sent)
    assert {one["sampling_probability"] for one in unsampled.stored()} == {0.2}
    assert {one["sampling_probability"] for one in sampled.stored()} == {0.1}
    assert len(unsampled.stored()) == 100


@pytest.mark.parametrize("said", [0, -0.5, 1.01, "0.5", None, True, LEAST_SAMPLING_PROBABILITY / 2])
def test_a_probability_that_is_none_is_rejected(start: Start, said: object) -> None:
    answer = start(1.0).post({**trace(), "sampling_probability": said})
    assert answer.status_code == 422
    assert answer.json()["rejected"][0]["field"] == "sampling_probability"


def test_a_trace_that_would_stand_for_too_many_is_rejected(start: Start) -> None:
    answer = start(0.5).post(traces(20, sampling_probability=LEAST_SAMPLING_PROBABILITY))
    body = answer.json()
    assert body["accepted"] == 0
    assert body["sampled_out"]
    assert {one["field"] for one in body["rejected"]} == {"sampling_probability"}
    assert len(body["rejected"]) + len(body["sampled_out"]) == 20


def export(number: int, state: str = "") -> bytes:
    """One whole RAG trace; its id ends in random bits that grow with the number, from 0 to 99 parts of 100."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    attribute = resource.resource.attributes.add(key="service.name")
    attribute.value.string_value = "support-bot"
    span = resource.scope_spans.add().spans.add(
        trace_id=b"\x01" * 9 + (number * (1 << 56) // 100).to_bytes(7, "big"),
        span_id=b"\x02" * 8,
        name="chat",
        start_time_unix_nano=int(NOW.timestamp()) * 10**9,
        end_time_unix_nano=int(NOW.timestamp()) * 10**9 + 1,
        trace_state=state,
    )
    for key, value in (
        ("openinference.span.kind", "CHAIN"),
        ("input.value", "When does the office open?"),
        ("output.value", "At nine."),
    ):
        span.attributes.add(key=key).value.string_value = value
    model = resource.scope_spans[0].spans.add()
    model.CopyFrom(span)
    model.span_id, model.parent_span_id = b"\x03" * 8, b"\x02" * 8
    model.attributes[0].value.string_value = "LLM"
    return request.SerializeToString()


def test_assembled_traces_are_sampled_by_opentelemetrys_rule(start: Start) -> None:
    sidecar = start(0.25)
    for number in range(100):
        assert sidecar.export(export(number), PROTOBUF).status_code == 200
    found = sidecar.assembled()
    assert sorted(one["trace_id"][-14:] for one in found) == [f"{n * (1 << 56) // 100:014x}" for n in range(75, 100)]
    assert {one["sampling_probability"] for one in found} == {0.25}
    status = sidecar.client.get("/v1/status").json()
    assert status["dropped"] == {"sampled_out": 75}
    assert (status["assembly"]["assembled"], status["assembly"]["completed"]["ended"]) == (25, 100)
    assert sidecar.exports.acknowledged == sidecar.exports.durable


def test_what_an_opentelemetry_sampler_says_is_the_senders_probability(start: Start) -> None:
    sidecar = start(1.0)
    assert sidecar.export(export(99, "ot=th:c;rv:ffffffffffffff"), PROTOBUF).status_code == 200
    (found,) = sidecar.assembled()
    assert found["sampling_probability"] == 0.25


def test_a_treatment_that_leaves_out_ends_the_row(tmp_path: Path) -> None:
    tally = Tally()
    nobody, second = Sampling(0.0, counters=tally), Sampling(0.0, counters=tally)
    assert Treatments(nobody, second).trace(example("t")) is None
    assert tally.drops == {"sampled_out": 1}
    assert Treatments().trace(example("t")) == example("t")
    assert Treatments(nobody, second).export(b"raw", "json") == b"raw"


def test_both_sidecars_sums_estimate_the_traffic(start: Start) -> None:
    with closing(start(0.2)) as sidecar:
        for batch in range(4):
            sidecar.post([trace(trace_id=f"b{batch}-{number}") for number in range(500)])
        stored = sidecar.stored()
        estimate = sum(1 / one["sampling_probability"] for one in stored)
    assert abs(estimate - 2000) < 4 * (2000 * 0.8 / 0.2) ** 0.5
