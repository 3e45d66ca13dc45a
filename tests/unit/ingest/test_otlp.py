"""OTLP over real HTTP into a real spool, and out of it as traces."""

import gzip
import json
import random
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped] # googleapis ships no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from monitor.spans.assembling import assemble
from tests.examples.spans import FILES, answers, recorded_bytes
from tests.support.sidecars import MEBIBYTE, LocalSidecar

PATH = "/v1/traces"
PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json; charset=utf-8"}
LIMIT = 2 * MEBIBYTE


def running_in(directory: Path, **limits: int) -> LocalSidecar:
    return LocalSidecar(directory, max_request_bytes=LIMIT, body_seconds=30, **limits)


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[LocalSidecar]:
    with closing(running_in(tmp_path)) as running:
        yield running


def batches(file: str, *, seed: int, size: int = 7) -> list[bytes]:
    """A recorded export, its spans shuffled and cut into small exports."""
    whole = ExportTraceServiceRequest.FromString(recorded_bytes(file, "pb"))
    spans = list(whole.resource_spans[0].scope_spans[0].spans)
    random.Random(seed).shuffle(spans)
    made = []
    for start in range(0, len(spans), size):
        request = ExportTraceServiceRequest()
        resource_spans = request.resource_spans.add()
        resource_spans.resource.CopyFrom(whole.resource_spans[0].resource)
        resource_spans.scope_spans.add().spans.extend(spans[start : start + size])
        made.append(request.SerializeToString())
    return made


def check(found: list[dict[str, Any]], files: tuple[str, ...]) -> None:
    # Three trace ids, and the ids of their spans, are those of two services that never called each other.
    expected = {(f"rag-demo-{file}", trace_id): answer for file in files for trace_id, answer in answers(file).items()}
    assert len({trace["trace_id"] for trace in found}) == len(found)
    assert sorted((trace["service"], trace["otel_trace_id"]) for trace in found) == sorted(expected)
    for trace in found:
        answer = expected[trace["service"], trace["otel_trace_id"]]
        assert (trace["question"], trace["answer"]) == (answer["question"], answer["answer"])
        assert [document["text"] for document in trace["documents"]] == answer["documents"]
        assert trace["trace_id"].startswith(trace["otel_trace_id"])


@pytest.mark.parametrize("seed", range(20))
def test_160_recorded_traces_arrive_whole_from_shuffled_small_batches(sidecar: LocalSidecar, seed: int) -> None:
    sent = [batch for file in FILES for batch in batches(file, seed=seed)]
    random.Random(seed).shuffle(sent)
    for batch in sent:
        response = sidecar.export(batch, PROTOBUF)
        assert (response.status_code, response.headers["content-type"]) == (200, "application/x-protobuf")
        assert ExportTraceServiceResponse.FromString(response.content) == ExportTraceServiceResponse()
    check(sidecar.assembled(), FILES)
    status = sidecar.client.get("/v1/status").json()
    completed = status["assembly"].pop("completed")
    assert sum(completed.values()) == completed["ended"] == 157  # three of them hold two questions
    nothing = {"open": 0, "waiting_bytes": 0, "not_rag": 0, "late_spans": 0}
    assert status["assembly"] == {**nothing, "assembled": 160}
    assert sidecar.exports.acknowledged == sidecar.exports.durable


@pytest.mark.parametrize("file", FILES)
def test_json_and_gzip_are_taken(sidecar: LocalSidecar, file: str) -> None:
    response = sidecar.export(gzip.compress(recorded_bytes(file, "json")), {**JSON, "content-encoding": "gzip"})
    assert (response.status_code, response.json()) == (200, {})
    assert response.headers["content-type"] == "application/json"
    check(sidecar.assembled(), (file,))


def test_what_was_acknowledged_survives_a_restart_and_is_no_second_trace(tmp_path: Path) -> None:
    sent = batches("oi-langchain", seed=1)
    half = len(sent) // 2
    with closing(running_in(tmp_path)) as first:
        for batch in sent[:half]:
            first.export(batch, PROTOBUF)
        first.assembler.step()
        assert first.assembler.state.open > 0
        assert first.exports.acknowledged == 0
    with closing(running_in(tmp_path)) as second:
        for batch in sent[half:]:
            second.export(batch, PROTOBUF)
        check(second.assembled(), ("oi-langchain",))
    with closing(running_in(tmp_path)) as third:
        check(third.assembled(), ("oi-langchain",))


def test_spans_that_come_after_their_trace_make_no_second_one(sidecar: LocalSidecar) -> None:
    whole = recorded_bytes("oi-llamaindex", "pb")
    sidecar.export(whole, PROTOBUF)
    assert len(sidecar.assembled()) == 40
    sidecar.export(whole, PROTOBUF)
    assert len(sidecar.assembled(seconds=1000)) == 40
    assert sidecar.assembler.state.late_spans == 480


def test_little_memory_completes_early_and_keeps_going(tmp_path: Path) -> None:
    with closing(running_in(tmp_path, span_bytes=50_000)) as sidecar:
        sidecar.export(recorded_bytes("tl-langchain", "pb"), PROTOBUF)
        sidecar.assembler.step()
        assert 0 < sidecar.assembler.state.open < 10
        check(sidecar.assembled(), ("tl-langchain",))


def test_bad_spans_are_told_and_the_others_taken(sidecar: LocalSidecar) -> None:
    good = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "s"}
    bad = {**good, "traceId": "nonsense"}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [good, bad, bad]}]}]}).encode()
    response = sidecar.export(body, JSON)
    assert response.status_code == 200
    partial = response.json()["partialSuccess"]
    assert partial["rejectedSpans"] == "2"
    assert "traceId" in partial["errorMessage"]
    sidecar.assembled()
    assert sidecar.assembler.state.not_rag == 1


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"nonsense", JSON, 400),
        (b"\xff\xff\xff\xff", PROTOBUF, 400),
        (b"not gzip", {**PROTOBUF, "content-encoding": "gzip"}, 400),
        (b"x", {**PROTOBUF, "content-encoding": "br"}, 415),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {}, 415),
        (b"x" * (LIMIT + 1), PROTOBUF, 413),
        (gzip.compress(bytes(LIMIT * 10), mtime=0), {**PROTOBUF, "content-encoding": "gzip"}, 413),
    ],
)
def test_refusals_carry_a_status_in_the_callers_encoding(
    sidecar: LocalSidecar, body: bytes, headers: dict[str, str], status: int
) -> None:
    response = sidecar.export(body, headers)
    assert response.status_code == status
    if response.headers["content-type"] == "application/json":
        assert response.json()["message"]
    else:
        assert Status.FromString(response.content).message
    assert sidecar.exports.durable == 0


def test_a_full_spool_asks_to_come_again(tmp_path: Path) -> None:
    with closing(running_in(tmp_path, export_bytes=16 * MEBIBYTE)) as sidecar:
        body = recorded_bytes("tl-langchain", "pb")
        answers = [sidecar.export(body, PROTOBUF) for _ in range(40)]
        last = answers[-1]
        assert (last.status_code, last.headers["retry-after"]) == (503, "5")
        assert Status.FromString(last.content).code == 14
        sidecar.assembled()
        sidecar.assembled()


def test_what_the_spans_do_not_tell_is_in_a_tag(sidecar: LocalSidecar) -> None:
    request = ExportTraceServiceRequest.FromString(recorded_bytes("oi-langchain", "pb"))
    spans = request.resource_spans[0].scope_spans[0].spans
    many = "retrieval.documents.{}.document.content"
    retriever = next(span for span in spans if span.name == "KBRetriever")
    for number in range(1, 120):
        retriever.attributes.add(key=many.format(number)).value.string_value = f"Text {number}."
    other = next(span for span in spans if span.name == "KBRetriever" and span.trace_id != retriever.trace_id)
    spans.remove(other)
    sidecar.export(request.SerializeToString(), PROTOBUF)
    told = {trace["trace_id"]: trace["tags"].get("groundwatch.problems") for trace in sidecar.assembled()}
    assert told[retriever.trace_id.hex()] == "only the first 100 of 120 documents are judged"
    assert len([problems for problems in told.values() if problems is None]) >= 38


def test_one_trace_that_cannot_be_assembled_costs_no_other(
    sidecar: LocalSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = next(iter(answers("oi-langchain")))

    def fails(spans: Any) -> Any:
        if spans[0].trace_id == bad:
            raise RuntimeError("unforeseen")
        return assemble(spans)

    monkeypatch.setattr("monitor.ingest.assembler.assemble", fails)
    sidecar.export(recorded_bytes("oi-langchain", "pb"), PROTOBUF)
    assert len(sidecar.assembled()) == 39
    assert sidecar.tally.refusals == {"invalid": 1}


def test_traces_that_break_the_contract_are_counted_and_do_not_stop_the_rest(sidecar: LocalSidecar) -> None:
    request = ExportTraceServiceRequest.FromString(recorded_bytes("oi-langchain", "pb"))
    spans = request.resource_spans[0].scope_spans[0].spans
    root = next(span for span in spans if not span.parent_span_id)
    root.end_time_unix_nano = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()) * 10**9
    sidecar.export(request.SerializeToString(), PROTOBUF)
    assert len(sidecar.assembled()) == 39
    assert sidecar.tally.refusals == {"invalid:event_time": 1}


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("my desk", "my-desk"),
        ("/prod/desk", "prod-desk"),
        ("schräg", "schr-g"),
        ("d" * 99, "d" * 64),
        ("…", "unknown_service"),
    ],
)
def test_a_service_may_be_called_anything(sidecar: LocalSidecar, named: str, expected: str) -> None:
    export = ExportTraceServiceRequest.FromString(recorded_bytes("oi-langchain", "pb"))
    for pair in export.resource_spans[0].resource.attributes:
        if pair.key == "service.name":
            pair.value.string_value = named
    assert sidecar.export(export.SerializeToString(), PROTOBUF).status_code == 200
    assert {trace["service"] for trace in sidecar.assembled()} == {expected}
