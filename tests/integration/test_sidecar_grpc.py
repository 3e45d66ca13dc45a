"""OTLP over gRPC, and the tee, on a sidecar that is a process of its own."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
import httpx
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from monitor.config import KafkaSettings
from monitor.embedded.ports import LOOPBACK
from tests.examples.spans import FILES
from tests.integration.test_sidecar import SECONDS, Sidecars, _answer, _ids, eventually
from tests.support.collectors import Collector
from tests.support.grpc_exporter import METHOD, Exporter
from tests.support.topic_reader import read_all
from tests.unit.ingest.test_otlp import batches

NOWHERE = KafkaSettings(bootstrap_servers=f"{LOOPBACK}:1")


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def quick_assembly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDWATCH_SIDECAR__SPAN_SETTLE_SECONDS", "1")


def export_of(number: int) -> tuple[str, bytes]:
    """A whole trace, and its id."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    trace_id, root_id = (number + 1).to_bytes(16, "big"), (number + 1).to_bytes(8, "big")
    chain = {"openinference.span.kind": "CHAIN", "input.value": "Why?", "output.value": "So."}
    retriever = {"openinference.span.kind": "RETRIEVER", "retrieval.documents.0.document.content": "Because."}
    root = spans.add(trace_id=trace_id, span_id=root_id, name="chain")
    child = spans.add(trace_id=trace_id, span_id=b"retrieve", parent_span_id=root_id, name="retriever")
    for span, attributes in ((root, chain), (child, retriever)):
        for key, value in attributes.items():
            span.attributes.add(key=key).value.string_value = value
    return trace_id.hex(), request.SerializeToString()


def test_a_stock_grpc_exporter_outlives_a_sidecar_that_is_killed(
    kafka_settings: KafkaSettings, tmp_path: Path, exits: ExitStack
) -> None:
    sidecars = Sidecars(tmp_path, kafka_settings)
    child = exits.enter_context(sidecars.start())
    # Only the endpoint is set, as it would be by OTEL_EXPORTER_OTLP_ENDPOINT.
    exporter = OTLPSpanExporter(sidecars.grpc_url, compression=grpc.Compression.Gzip)
    provider = TracerProvider(resource=Resource.create({"service.name": "desk"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=100, max_export_batch_size=7))
    tracer = provider.get_tracer("test")
    expected = {_answer(tracer, number): number for number in range(40)}
    assert provider.force_flush()
    child.kill()
    exits.enter_context(sidecars.start())
    expected |= {_answer(tracer, number): number for number in range(40, 80)}
    assert provider.force_flush()
    provider.shutdown()
    eventually(lambda: set(_ids(kafka_settings)) >= set(expected))
    for value in read_all(kafka_settings, kafka_settings.traces_topic):
        trace = json.loads(value)
        number = expected[trace["trace_id"]]
        assert (trace["question"], trace["answer"]) == (f"Question {number}?", f"Answer {number}.")
        assert [document["text"] for document in trace["documents"]] == [f"Text {number}."]


def test_sigterm_under_load_keeps_all_that_was_acknowledged(
    kafka_settings: KafkaSettings, tmp_path: Path, exits: ExitStack
) -> None:
    sidecars = Sidecars(tmp_path, kafka_settings)
    child = exits.enter_context(sidecars.start())
    exporter = exits.enter_context(closing(Exporter(sidecars.grpc_url.removeprefix("http://"))))
    acknowledged: set[str] = set()
    stop = threading.Event()

    def load(worker: int) -> None:
        for number in range(100_000):
            if stop.is_set():
                return
            trace_id, body = export_of(worker * 100_000 + number)
            try:
                exporter.send(body)
            except grpc.RpcError:
                return
            acknowledged.add(trace_id)

    with ThreadPoolExecutor(4) as pool:
        exits.callback(stop.set)
        loads = [pool.submit(load, worker) for worker in range(4)]
        eventually(lambda: len(acknowledged) > 300)
        assert child.stop(grace_seconds=SECONDS) == 0
        for one in loads:
            one.result(SECONDS)
    assert "Traceback" not in child.log_tail()
    exits.enter_context(sidecars.start())
    eventually(lambda: acknowledged - set(_ids(kafka_settings)) == set())


def test_a_call_that_began_before_sigterm_is_finished(tmp_path: Path, exits: ExitStack) -> None:
    sidecars = Sidecars(tmp_path, NOWHERE)
    child = exits.enter_context(sidecars.start())
    exporter = exits.enter_context(closing(Exporter(sidecars.grpc_url.removeprefix("http://"))))
    released = threading.Event()
    exits.callback(released.set)

    def message() -> Iterator[bytes]:
        released.wait(SECONDS)
        yield export_of(7)[1]

    call = exporter.channel.stream_unary(METHOD).future(message(), timeout=SECONDS)
    exporter.send(export_of(8)[1])  # on the same connection, behind the other's headers
    os.kill(child.pid, signal.SIGTERM)

    def takes_no_connections() -> bool:
        try:
            httpx.get(f"{sidecars.url}/healthz", timeout=SECONDS)
        except httpx.TransportError:
            return True
        return False

    eventually(takes_no_connections)
    released.set()
    assert call.result(SECONDS) == b""
    assert child.wait(deadline_seconds=SECONDS) == 0
    exits.enter_context(sidecars.start())
    eventually(lambda: sidecars.status()["assembly"]["assembled"] == 2)


def test_both_addresses_are_told_before_it_is_ready(tmp_path: Path, exits: ExitStack) -> None:
    child = exits.enter_context(Sidecars(tmp_path, NOWHERE).start("--grpc-port", "0"))
    lines = child.log.read_text().splitlines()
    ready = next(number for number, line in enumerate(lines) if line.startswith("sidecar ready on http://"))
    address = lines[ready - 1].removeprefix("sidecar takes OTLP over gRPC on http://")
    with closing(Exporter(address)) as exporter:
        exporter.send(export_of(1)[1])


def test_grpc_can_be_left_out(tmp_path: Path, exits: ExitStack) -> None:
    sidecars = Sidecars(tmp_path, NOWHERE)
    child = exits.enter_context(sidecars.start("--no-grpc"))
    assert "gRPC" not in child.log.read_text()
    with closing(Exporter(sidecars.grpc_url.removeprefix("http://"))) as exporter:
        assert exporter.refused(b"").code() is grpc.StatusCode.UNAVAILABLE


def test_a_grpc_port_that_is_taken_is_refused_with_a_message(tmp_path: Path, exits: ExitStack) -> None:
    first, second = Sidecars(tmp_path / "first", NOWHERE), Sidecars(tmp_path / "second", NOWHERE)
    first.directory.mkdir()
    second.directory.mkdir()
    exits.enter_context(first.start())
    child = exits.enter_context(
        second.spawn("--port", second.url.rpartition(":")[2], "--grpc-port", first.grpc_url.rpartition(":")[2])
    )
    assert child.wait(deadline_seconds=SECONDS) == 1
    assert "sidecar.grpc_port: cannot listen on" in child.log_tail()
    assert "Traceback" not in child.log_tail()


def test_the_tee_passes_on_what_came_by_grpc_even_while_the_sidecar_stops(
    tmp_path: Path, exits: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector(answers=[(503, {"retry-after": "1"})], pause=0.01)
    monkeypatch.setenv("GROUNDWATCH_SIDECAR__TEE_ENDPOINT", collector.url)
    monkeypatch.setenv("GROUNDWATCH_SIDECAR__TEE_HEADERS", '{"x-api-key": "of-the-operator"}')
    sidecars = Sidecars(tmp_path, NOWHERE)
    child = exits.enter_context(sidecars.start())
    exporter = exits.enter_context(closing(Exporter(sidecars.grpc_url.removeprefix("http://"))))
    exits.enter_context(collector.serving())
    sent = [batch for file in FILES for batch in batches(file, seed=5)][:100]
    for batch in sent:
        exporter.send(batch, metadata=(("authorization", "Bearer of-the-caller"),))
    eventually(lambda: sidecars.status()["tee"]["forwarded"] > 0)
    assert child.stop(grace_seconds=SECONDS) == 0
    assert collector.taken == sent
    assert {seen.headers["x-api-key"] for seen in collector.seen} == {"of-the-operator"}
    assert not any("authorization" in seen.headers for seen in collector.seen)
    assert "of-the-operator" not in child.log.read_text()
