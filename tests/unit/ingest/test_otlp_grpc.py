"""OTLP over real gRPC into a real spool, and out of it as traces."""

import gzip
import logging
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped] # googleapis ships no types
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped] # googleapis ships no types
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from monitor.domain.errors import InvalidSettings
from monitor.ingest.callers import ANYBODY, Caller
from monitor.ingest.counters import Refusal
from monitor.ingest.grpc_server import server_credentials
from monitor.ingest.otlp_intake import read_key
from monitor.ingest.refused import RequestRefused
from monitor.ingest.tls import Certificate, Tls
from monitor.ingest.treatment import NoTreatment
from tests.examples.spans import FILES, recorded_bytes
from tests.support.certificates import pem_files
from tests.support.collectors import until
from tests.support.grpc_exporter import METHOD, Exporter
from tests.support.sidecars import MEBIBYTE, LocalSidecar
from tests.unit.ingest.test_otlp import batches, check

LIMIT = 2 * MEBIBYTE
SECONDS = 20.0


def running_in(directory: Path, **options: Any) -> LocalSidecar:
    return LocalSidecar(directory, **{"max_request_bytes": LIMIT, "body_seconds": 30, **options})


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[LocalSidecar]:
    with closing(running_in(tmp_path)) as running:
        yield running


@pytest.fixture
def exporter(sidecar: LocalSidecar) -> Iterator[Exporter]:
    with closing(Exporter(sidecar.grpc_address)) as made:
        yield made


def status_of(error: grpc.RpcError) -> Status:
    (details,) = (value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin")
    return Status.FromString(details)


def retry_seconds(error: grpc.RpcError) -> int:
    (detail,) = status_of(error).details
    retry = RetryInfo()
    assert detail.Unpack(retry)
    return int(retry.retry_delay.seconds)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_160_recorded_traces_over_grpc_are_those_that_http_gives(tmp_path: Path, compression: grpc.Compression) -> None:
    sent = [batch for file in FILES for batch in batches(file, seed=3)]
    random.Random(3).shuffle(sent)
    found = []
    for way in ("http", "grpc"):
        with closing(running_in(tmp_path / way)) as sidecar, closing(Exporter(sidecar.grpc_address)) as exporter:
            for batch in sent:
                if way == "grpc":
                    assert exporter.send(batch, compression=compression) == ExportTraceServiceResponse()
                else:
                    sidecar.export(batch, {"content-type": "application/x-protobuf"})
            found.append(sorted(sidecar.assembled(), key=lambda trace: str(trace["trace_id"])))
    over_http, over_grpc = found
    check(over_grpc, FILES)
    assert over_grpc == over_http


def test_a_stock_exporter_needs_its_endpoint_only(sidecar: LocalSidecar) -> None:
    exporter = OTLPSpanExporter(f"http://{sidecar.grpc_address}", compression=grpc.Compression.Gzip)
    provider = TracerProvider(resource=Resource.create({"service.name": "desk"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    kind = "openinference.span.kind"
    with tracer.start_as_current_span("chain", attributes={kind: "CHAIN", "input.value": "Why?"}) as chain:
        document = {"retrieval.documents.0.document.content": "Because. " * 300}
        with tracer.start_as_current_span("retriever", attributes={kind: "RETRIEVER", **document}):
            pass
        chain.set_attribute("output.value", "So.")
    assert provider.force_flush()
    provider.shutdown()
    (trace,) = sidecar.assembled()
    assert (trace["service"], trace["question"], trace["answer"]) == ("desk", "Why?", "So.")


def test_bad_spans_are_told_and_the_others_taken(sidecar: LocalSidecar, exporter: Exporter) -> None:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for trace_id in (b"\xab" * 16, b"short", b"\0" * 16):
        spans.add(trace_id=trace_id, span_id=b"\xcd" * 8, name="s")
    partial = exporter.send(request.SerializeToString()).partial_success
    assert partial.rejected_spans == 2
    assert "traceId" in partial.error_message
    assert sidecar.tally.refusals == {"invalid": 1}
    sidecar.assembled()
    assert sidecar.assembler.state.not_rag == 1


@pytest.mark.parametrize(
    ("body", "code", "counted"),
    [
        (b"nonsense", grpc.StatusCode.INVALID_ARGUMENT, "invalid"),
        (b"\xff\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, "invalid"),
        (b"\x1f\x8b not gzip", grpc.StatusCode.INVALID_ARGUMENT, "not_json"),
        (gzip.compress(bytes(LIMIT * 10), mtime=0), grpc.StatusCode.RESOURCE_EXHAUSTED, "too_large"),
        (gzip.compress(b"", mtime=0)[:-3], grpc.StatusCode.INVALID_ARGUMENT, "not_json"),
    ],
)
def test_refusals_have_a_status_that_no_exporter_repeats_and_are_counted(
    sidecar: LocalSidecar, exporter: Exporter, body: bytes, code: grpc.StatusCode, counted: str
) -> None:
    error = exporter.refused(body)
    assert error.code() is code
    assert (status_of(error).code, status_of(error).message) == (code.value[0], error.details())
    assert not status_of(error).details  # RESOURCE_EXHAUSTED without RetryInfo is final
    assert sidecar.tally.refusals == {counted: 1}
    assert sidecar.exports.durable == 0


@pytest.mark.parametrize("size", [LIMIT + 1, 100 * LIMIT])
def test_a_message_over_the_limit_is_refused_on_sight_of_its_length(
    sidecar: LocalSidecar, exporter: Exporter, size: int
) -> None:
    assert exporter.refused(bytes(size)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert exporter.send(b"") == ExportTraceServiceResponse()
    assert sidecar.tally.refusals == {"unread": 1}


def test_a_bomb_that_the_caller_has_grpc_compress_is_refused_like_any_other(
    sidecar: LocalSidecar, exporter: Exporter
) -> None:
    error = exporter.refused(bytes(100 * LIMIT), compression=grpc.Compression.Gzip)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert sidecar.tally.refusals == {"too_large": 1}


def test_compression_that_is_not_offered_is_refused_as_grpc_says(exporter: Exporter) -> None:
    error = exporter.refused(bytes(10_000), compression=grpc.Compression.Deflate)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_call_without_a_message_is_refused(sidecar: LocalSidecar, exporter: Exporter) -> None:
    call = exporter.channel.stream_unary(METHOD)
    with pytest.raises(grpc.RpcError) as refusal:
        call(iter(()), timeout=SECONDS)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sidecar.tally.refusals == {"unread": 1}


def test_other_methods_are_not_there(exporter: Exporter) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        exporter.channel.unary_unary(METHOD.replace("trace.v1.Trace", "logs.v1.Logs"))(b"", timeout=SECONDS)
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_full_spool_asks_to_come_again(tmp_path: Path) -> None:
    with (
        closing(running_in(tmp_path, export_bytes=16 * MEBIBYTE)) as sidecar,
        closing(Exporter(sidecar.grpc_address)) as exporter,
    ):
        body = recorded_bytes("tl-langchain", "pb")
        sent = 0
        while sidecar.tally.refusals == {}:
            try:
                exporter.send(body)
            except grpc.RpcError as error:
                refusal = error
            sent += 1
        assert sent < 1000
        assert (refusal.code(), retry_seconds(refusal)) == (grpc.StatusCode.UNAVAILABLE, 5)
        assert sidecar.tally.refusals == {"spool_full": 1}


class Doorkeeper:
    """Knows one token, and one that is not for traces."""

    def admit(self, authorization: str | None) -> Caller:
        if authorization == "Bearer right":
            return Caller(tenant="acme")
        status = 403 if authorization == "Bearer other" else 401
        raise RequestRefused(status, Refusal.INVALID, "not you")


def test_the_gate_reads_the_metadata_and_names_the_tenant(tmp_path: Path) -> None:
    with (
        closing(running_in(tmp_path, gate=Doorkeeper())) as sidecar,
        closing(Exporter(sidecar.grpc_address)) as exporter,
    ):
        body = batches("oi-langchain", seed=1)[0]
        told = {
            token: exporter.refused(body, metadata=(("authorization", token),)).code()
            for token in ("Bearer wrong", "Bearer other")
        }
        assert told == {
            "Bearer wrong": grpc.StatusCode.UNAUTHENTICATED,
            "Bearer other": grpc.StatusCode.PERMISSION_DENIED,
        }
        assert exporter.refused(body).code() is grpc.StatusCode.UNAUTHENTICATED
        assert sidecar.exports.durable == 0
        exporter.send(body, metadata=(("authorization", "Bearer right"),))
        (record,) = sidecar.exports.read(0, limit=10)
        assert read_key(record.entry.key) == ("protobuf", "acme")
        assert record.entry.value == body


def stalled(exporter: Exporter, released: threading.Event) -> "grpc.Future[bytes]":
    """A call whose message does not come until it is released."""

    def message() -> Iterator[bytes]:
        released.wait(60)
        yield b""

    future: grpc.Future[bytes] = exporter.channel.stream_unary(METHOD).future(message())
    return future


def test_a_message_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    released = threading.Event()
    with (
        closing(running_in(tmp_path, body_seconds=0.2)) as sidecar,
        closing(Exporter(sidecar.grpc_address)) as exporter,
        ExitStack() as stack,
    ):
        stack.callback(released.set)
        waiting = [stalled(exporter, released) for _ in range(20)]
        # Those that got no place to read are not to blame for it, and come again.
        codes = [call.exception(SECONDS).code() for call in waiting]  # type: ignore[union-attr] # they all fail
        slow, busy = (codes.count(one) for one in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE))
        assert (slow >= 4, busy > 0, slow + busy) == (True, True, 20)
        assert sidecar.tally.refusals == {"too_slow": slow, "busy": busy}
        assert exporter.send(b"") == ExportTraceServiceResponse()


class TwoTenants:
    """A gate that takes a caller's word for who it is."""

    def admit(self, authorization: str | None) -> Caller:
        return Caller(tenant=authorization)


def test_a_tenant_that_says_nothing_holds_up_no_other(tmp_path: Path) -> None:
    released = threading.Event()

    def silent() -> Iterator[bytes]:
        released.wait(60)
        yield b""

    with (
        closing(running_in(tmp_path, gate=TwoTenants())) as sidecar,
        closing(Exporter(sidecar.grpc_address)) as exporter,
        ExitStack() as stack,
    ):
        stack.callback(released.set)
        method = exporter.channel.stream_unary(METHOD)
        calls = [method.future(silent(), metadata=(("authorization", "acme"),)) for _ in range(8)]
        body = batches("oi-langchain", seed=1)[0]
        # On the same connection, so behind the eight, which go on.
        assert exporter.send(body, metadata=(("authorization", "globex"),)) == ExportTraceServiceResponse()
        assert not any(call.done() for call in calls)
        released.set()
        assert [call.result(SECONDS) for call in calls] == [b""] * 8


def test_callers_that_give_up_leave_nothing_behind(sidecar: LocalSidecar, exporter: Exporter) -> None:
    released = threading.Event()
    calls = [stalled(exporter, released) for _ in range(20)]
    for call in calls:
        call.cancel()
    released.set()
    with ThreadPoolExecutor(8) as pool:
        body = recorded_bytes("oi-langchain", "pb")
        assert list(pool.map(lambda _: exporter.send(body), range(16))) == [ExportTraceServiceResponse()] * 16
    assert sidecar.exports.durable == 16


class Slow(NoTreatment):
    """Keeps the intake busy until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def export(self, raw: bytes, encoding: str) -> bytes:  # noqa: ARG002 - nothing to read
        self.released.wait(60)
        return raw


def test_more_bodies_than_memory_is_meant_for_are_told_to_come_again(tmp_path: Path) -> None:
    slow = Slow()
    body = bytes([0xFA, 0x3F, *varint(LIMIT - 16)]) + bytes(LIMIT - 16)  # one field that OTLP does not know
    with (
        closing(running_in(tmp_path, treatment=lambda _: slow)) as sidecar,
        closing(Exporter(sidecar.grpc_address)) as exporter,
        ThreadPoolExecutor(10) as pool,
        ExitStack() as stack,
    ):
        stack.callback(slow.released.set)
        calls = [pool.submit(exporter.send, body) for _ in range(10)]
        until(lambda: sidecar.tally.refusals == {"busy": 6})
        # Bodies over HTTP are counted together with those.
        assert sidecar.export(body, {"content-type": "application/x-protobuf"}).status_code == 503
        slow.released.set()
        refusals = [error for call in calls if (error := call.exception(SECONDS))]
        assert [(error.code(), retry_seconds(error)) for error in refusals] == [  # type: ignore[attr-defined] # RpcErrors
            (grpc.StatusCode.UNAVAILABLE, 1)
        ] * 6
        assert exporter.send(body) == ExportTraceServiceResponse()


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def test_more_calls_than_are_allowed_are_told_to_come_again(tmp_path: Path) -> None:
    released = threading.Event()
    with (
        closing(running_in(tmp_path, grpc_calls=3)) as sidecar,
        closing(Exporter(sidecar.grpc_address)) as exporter,
        ExitStack() as stack,
    ):
        stack.callback(released.set)
        waiting = [stalled(exporter, released) for _ in range(3)]
        # On the same connection, so behind the three.
        error = exporter.refused(b"")
        assert (error.code(), retry_seconds(error)) == (grpc.StatusCode.UNAVAILABLE, 1)
        released.set()
        assert [call.result(SECONDS) for call in waiting] == [b""] * 3
        assert exporter.send(b"") == ExportTraceServiceResponse()


class Bursting:
    """A gate with a defect."""

    def admit(self, authorization: str | None) -> Caller:
        if authorization:
            raise RuntimeError("secret text")
        return ANYBODY


def test_a_defect_is_told_without_its_text_and_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        closing(running_in(tmp_path, gate=Bursting())) as sidecar,
        closing(Exporter(sidecar.grpc_address)) as exporter,
        caplog.at_level(logging.CRITICAL),
    ):
        error = exporter.refused(b"", metadata=(("authorization", "x"),))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(error)
        assert exporter.send(b"") == ExportTraceServiceResponse()


def test_hostile_bytes_are_answered_and_do_no_harm(sidecar: LocalSidecar, exporter: Exporter) -> None:
    rng = random.Random(7)
    whole = batches("oi-llamaindex", seed=1)[0]
    codes = set()
    for number in range(600):
        body = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        mangled = bytes(body[: rng.randint(0, len(body))])
        if number % 3 == 0:
            mangled = gzip.compress(mangled)
        try:
            exporter.send(mangled)
        except grpc.RpcError as error:
            codes.add(error.code())
    assert codes == {grpc.StatusCode.INVALID_ARGUMENT}
    assert exporter.send(recorded_bytes("oi-langchain", "pb")) == ExportTraceServiceResponse()
    assert len([one for one in sidecar.assembled() if one["service"] == "rag-demo-oi-langchain"]) == 40


def test_tls_from_pem_files(tmp_path: Path) -> None:
    certificate, key = pem_files(tmp_path)
    trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
    with closing(
        running_in(tmp_path, credentials=server_credentials(Certificate(Tls(certificate=certificate, key=key))))
    ) as sidecar:
        address = sidecar.grpc_address.replace("127.0.0.1", "localhost")
        with closing(Exporter(address, trusted)) as exporter:
            assert exporter.send(b"") == ExportTraceServiceResponse()
        with closing(Exporter(address)) as plain:
            assert plain.refused(b"").code() is grpc.StatusCode.UNAVAILABLE


def test_callers_without_a_certificate_are_refused_where_one_is_asked_for(tmp_path: Path) -> None:
    certificate, key = pem_files(tmp_path)
    pair = key.read_bytes(), certificate.read_bytes()
    credentials = server_credentials(Certificate(Tls(certificate=certificate, key=key, client_ca=certificate)))
    with closing(running_in(tmp_path, credentials=credentials)) as sidecar:
        address = sidecar.grpc_address.replace("127.0.0.1", "localhost")
        with closing(Exporter(address, grpc.ssl_channel_credentials(pair[1], *pair))) as known:
            assert known.send(b"") == ExportTraceServiceResponse()
        with closing(Exporter(address, grpc.ssl_channel_credentials(pair[1]))) as unknown:
            assert unknown.refused(b"").code() is grpc.StatusCode.UNAVAILABLE


def test_a_pem_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"key\.pem"):
        Certificate(Tls(certificate=tmp_path / "certificate.pem", key=tmp_path / "key.pem"))
