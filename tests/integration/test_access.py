"""Who may send, held against a sidecar as its users have it: a process with tokens, over HTTP and gRPC."""

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from monitor.config import KafkaSettings
from monitor.embedded.ports import LOOPBACK
from monitor.embedded.processes import Child
from monitor.ingest.tokens import Token, digest, new_secret, write_tokens
from monitor.otlp import TENANT
from tests.support.grpc_exporter import Exporter
from tests.support.sidecar_processes import Sidecars
from tests.support.topic_reader import read_all

SECONDS = 60.0
MARK = "must-not-be-kept"
"""In all that is refused."""

HTTP_ROUTES = ("traces", "traces by line", "feedback", "spans", "spans as JSON")
REFUSED = ("missing", "unknown", "expired", "not_yet_valid", "revoked", "other_tenant")
DAY = timedelta(days=1)


class Tenants:
    """The tokens file, and the secrets that are written nowhere."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "tokens.json"
        self.secrets = {name: new_secret() for name in ("acme", "globex", "expired", "not_yet_valid", "revoked")}
        now = datetime.now(UTC)
        tenants = dict.fromkeys(self.secrets, "acme") | {"globex": "globex"}
        self.kept = {
            name: Token(name=name, tenant=tenants[name], sha256=digest(secret)) for name, secret in self.secrets.items()
        }
        self.kept["expired"] = replace(self.kept["expired"], expires=now - DAY)
        self.kept["not_yet_valid"] = replace(self.kept["not_yet_valid"], not_before=now + DAY)
        self.write()

    def write(self) -> None:
        write_tokens(self.path, list(self.kept.values()))

    def add(self, name: str, tenant: str) -> None:
        self.secrets[name] = new_secret()
        self.kept[name] = Token(name=name, tenant=tenant, sha256=digest(self.secrets[name]))
        self.write()

    def revoke(self, name: str) -> None:
        del self.kept[name]
        self.write()

    def header(self, name: str) -> dict[str, str]:
        """As its bearer sends it; `unknown` is of nobody, `missing` of one who has none."""
        secrets = {"unknown": new_secret(), "other_tenant": self.secrets["globex"], **self.secrets}
        return {} if name == "missing" else {"authorization": f"Bearer {secrets[name]}"}


class Caller:
    """Sends to every route that writes."""

    def __init__(self, sidecars: Sidecars) -> None:
        self._http = httpx.Client(base_url=sidecars.url, timeout=SECONDS)
        self._grpc = Exporter(sidecars.grpc_url.removeprefix("http://"))

    def over_http(self, route: str, header: Mapping[str, str], *, word: str, tenant: str | None) -> int:
        """The status that a route answers with."""
        path, kind, body = request(route, word=word, tenant=tenant)
        return self._http.post(path, content=body, headers={"content-type": kind, **header}).status_code

    def over_grpc(self, header: Mapping[str, str], *, word: str, tenant: str | None) -> grpc.StatusCode:
        try:
            self._grpc.send(export(word, tenant).SerializeToString(), metadata=tuple(header.items()))
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK

    def is_known(self, header: Mapping[str, str]) -> bool:
        """Whether the sidecar lets one in; writes nothing."""
        return self._http.get("/v1/status", headers=header).status_code == 200

    def close(self) -> None:
        self._http.close()
        self._grpc.close()


def request(route: str, *, word: str, tenant: str | None) -> tuple[str, str, bytes]:
    """Path, content type and body."""
    named = {} if tenant is None else {"tenant": tenant}
    match route:
        case "spans":
            return "/v1/traces", "application/x-protobuf", export(word, tenant).SerializeToString()
        case "spans as JSON":
            return "/v1/traces", "application/json", json.dumps(as_otlp_json(export(word, tenant))).encode()
        case "feedback":
            return "/v1/feedback", "application/json", json.dumps({"trace_id": word, "thumb": "up", **named}).encode()
    documents = [{"id": "d", "text": word}]
    trace = {"trace_id": word, "service": "s", "question": word, "documents": documents, "answer": word, **named}
    lines = route == "traces by line"
    return "/v1/rag/traces", f"application/{'x-ndjson' if lines else 'json'}", json.dumps(trace).encode()


def export(word: str, tenant: str | None) -> ExportTraceServiceRequest:
    """One trace of OpenInference's, whole."""
    made = ExportTraceServiceRequest()
    resource_spans = made.resource_spans.add()
    if tenant is not None:
        resource_spans.resource.attributes.add(key=TENANT).value.string_value = tenant
    spans = resource_spans.scope_spans.add().spans
    trace_id = bytes.fromhex(digest(word))[:16]
    root = spans.add(trace_id=trace_id, span_id=bytes([0xAA] * 8), name=word)
    child = spans.add(trace_id=trace_id, span_id=bytes([0xBB] * 8), parent_span_id=bytes([0xAA] * 8), name=word)
    chain = {"openinference.span.kind": "CHAIN", "input.value": word, "output.value": word}
    retriever = {"openinference.span.kind": "RETRIEVER", "retrieval.documents.0.document.content": word}
    for span, attributes in ((root, chain), (child, retriever)):
        for key, value in attributes.items():
            span.attributes.add(key=key).value.string_value = value
    return made


def as_otlp_json(made: ExportTraceServiceRequest) -> dict[str, Any]:
    """OTLP's own mapping: ids in hexadecimal."""
    plain: dict[str, Any] = MessageToDict(made)
    for span in plain["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = base64.b64decode(span[name]).hex()
    return plain


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def tenants(tmp_path: Path) -> Tenants:
    return Tenants(tmp_path)


def environment(tenants: Tenants) -> dict[str, str]:
    return {
        "GROUNDWATCH_ACCESS__TOKENS_FILE": str(tenants.path),
        "GROUNDWATCH_SIDECAR__SPAN_SETTLE_SECONDS": "0.5",
    }


@pytest.fixture
def sidecars(kafka_settings: KafkaSettings, tmp_path: Path, tenants: Tenants) -> Sidecars:
    return Sidecars(tmp_path, kafka_settings, **environment(tenants))


@pytest.fixture
def child(sidecars: Sidecars, exits: ExitStack) -> Child:
    return exits.enter_context(sidecars.start())


@pytest.fixture
def caller(sidecars: Sidecars, child: Child) -> Iterator[Caller]:
    with closing(Caller(sidecars)) as made:
        yield made


def status(sidecars: Sidecars, tenants: Tenants) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(
        f"{sidecars.url}/v1/status", headers=tenants.header("acme"), timeout=SECONDS
    ).json()
    return found


def holding(word: str, directory: Path) -> set[str]:
    """Directories with files in which a word is found."""
    found = (path for path in directory.rglob("*") if path.is_file() and word.encode() in path.read_bytes())
    return {path.parent.name for path in found}


def on_topics(kafka: KafkaSettings) -> dict[str, list[Any]]:
    """Tenants and words of what Kafka has."""
    traces = [json.loads(value) for value in read_all(kafka, kafka.traces_topic)]
    feedback = [json.loads(value) for value in read_all(kafka, kafka.feedback_topic)]
    return {
        "traces": sorted((trace["tenant"], trace["answer"]) for trace in traces),
        "feedback": [(one["tenant"], one["trace_id"]) for one in feedback],
    }


def test_what_is_not_let_in_is_written_nowhere_and_what_is_belongs_to_its_tenant(
    sidecars: Sidecars, child: Child, caller: Caller, tenants: Tenants, kafka_settings: KafkaSettings
) -> None:
    assert caller.over_http("traces", tenants.header("revoked"), word="before", tenant=None) == 202
    tenants.revoke("revoked")
    child.wait_until(lambda: not caller.is_known(tenants.header("revoked")), deadline_seconds=SECONDS)
    before = status(sidecars, tenants)["access"]["refused"]
    for cause in REFUSED:
        # Globex' token holds; it is Acme's name that it may not use.
        sent = {"word": MARK, "tenant": "acme" if cause == "other_tenant" else None}
        codes = {caller.over_http(route, tenants.header(cause), **sent) for route in HTTP_ROUTES}
        assert codes == {403 if cause == "other_tenant" else 401}, cause
        code = caller.over_grpc(tenants.header(cause), **sent)
        assert code.name == ("PERMISSION_DENIED" if cause == "other_tenant" else "UNAUTHENTICATED")
    sends = len(HTTP_ROUTES) + 1
    standing = status(sidecars, tenants)
    counted = {cause: count - before.get(cause, 0) for cause, count in standing["access"]["refused"].items()}
    told = {"missing": 1, "unknown": 2, "expired": 1, "not_yet_valid": 1, "other_tenant": 1}  # a revoked one is unknown
    assert counted == {cause: times * sends for cause, times in told.items()}
    assert standing["exports"]["records"] == standing["feedback"]["accepted"] == 0
    assert standing["accepted"] == 1

    for route in HTTP_ROUTES:
        word = f"good {route}".replace(" ", "-")
        assert caller.over_http(route, tenants.header("acme"), word=word, tenant="acme") in (200, 202)
    assert caller.over_grpc(tenants.header("globex"), word="good-call", tenant=None) is grpc.StatusCode.OK
    good = [("acme", f"good-{word}") for word in ("spans", "spans-as-JSON", "traces", "traces-by-line")]
    wanted = sorted([("acme", "before"), *good, ("globex", "good-call")])
    child.wait_until(lambda: status(sidecars, tenants)["forwarded"] >= len(wanted), deadline_seconds=SECONDS)
    child.wait_until(lambda: status(sidecars, tenants)["feedback"]["forwarded"] == 1, deadline_seconds=SECONDS)

    assert on_topics(kafka_settings) == {"traces": wanted, "feedback": [("acme", "good-feedback")]}


def test_on_disk_is_what_was_let_in_and_nothing_else(tmp_path: Path, exits: ExitStack, tenants: Tenants) -> None:
    away = Sidecars(tmp_path, KafkaSettings(bootstrap_servers=f"{LOOPBACK}:1"), **environment(tenants))
    exits.enter_context(away.start())
    caller = exits.enter_context(closing(Caller(away)))
    for cause in ("unknown", "expired", "other_tenant"):
        for route in HTTP_ROUTES:
            assert caller.over_http(route, tenants.header(cause), word=MARK, tenant="acme") in (401, 403)
        assert caller.over_grpc(tenants.header(cause), word=MARK, tenant="acme") is not grpc.StatusCode.OK
    for route in HTTP_ROUTES:
        assert caller.over_http(route, tenants.header("acme"), word="to-be-kept", tenant="acme") in (200, 202)
    # As spans, or as the trace that has been assembled of them meanwhile.
    found = holding("to-be-kept", tmp_path)
    assert found >= {"spool", "feedback"}
    assert found & {"spans", "assembled"}
    assert holding(MARK, tmp_path) == set()


def test_the_log_names_a_token_that_is_over_once_and_no_secret(
    sidecars: Sidecars, child: Child, caller: Caller, tenants: Tenants
) -> None:
    for _ in range(5):
        for name in ("expired", "not_yet_valid", "missing", "acme"):
            caller.over_http("traces", tenants.header(name), word=MARK, tenant="acme")
            caller.over_grpc(tenants.header(name), word=MARK, tenant="acme")
    assert child.stop(grace_seconds=SECONDS) == 0
    log = child.log.read_text()
    assert log.count("token expired of tenant acme") == 1
    assert log.count("token not_yet_valid of tenant acme") == 1
    for secret in tenants.secrets.values():
        assert secret not in log
        assert digest(secret) not in log


def test_tokens_rotate_under_load_over_both_protocols_without_one_refusal(
    child: Child, caller: Caller, tenants: Tenants
) -> None:
    using = ["acme"]
    answers: list[Any] = []
    done = threading.Event()

    def load(send: Callable[[], Any]) -> None:
        while not done.is_set():
            answers.append(send())

    loads = [
        threading.Thread(
            target=load,
            args=[lambda: caller.over_http("traces", tenants.header(using[0]), word="load", tenant=None)],
        ),
        threading.Thread(
            target=load, args=[lambda: caller.over_grpc(tenants.header(using[0]), word="load", tenant="acme")]
        ),
    ]
    for thread in loads:
        thread.start()
    try:
        for number in range(3):
            old, new = using[0], f"next-{number}"
            tenants.add(new, "acme")
            child.wait_until(lambda new=new: caller.is_known(tenants.header(new)), deadline_seconds=SECONDS)
            using[0] = new
            reached = len(answers) + 20
            child.wait_until(lambda reached=reached: len(answers) > reached, deadline_seconds=SECONDS)
            tenants.revoke(old)
            child.wait_until(lambda old=old: not caller.is_known(tenants.header(old)), deadline_seconds=SECONDS)
    finally:
        done.set()
        for thread in loads:
            thread.join(SECONDS)
    assert set(answers) == {202, grpc.StatusCode.OK}


def test_a_broken_tokens_file_lets_in_whom_it_let_in_and_is_told_of(
    sidecars: Sidecars, child: Child, caller: Caller, tenants: Tenants
) -> None:
    tenants.path.write_text("{")
    child.wait_until(lambda: status(sidecars, tenants)["access"]["problem"] is not None, deadline_seconds=SECONDS)
    assert str(tenants.path) in status(sidecars, tenants)["access"]["problem"]
    assert caller.over_http("traces", tenants.header("acme"), word="w", tenant=None) == 202
    assert caller.over_http("traces", tenants.header("unknown"), word="w", tenant=None) == 401
    tenants.revoke("globex")
    child.wait_until(lambda: status(sidecars, tenants)["access"]["problem"] is None, deadline_seconds=SECONDS)
    assert caller.over_http("traces", tenants.header("globex"), word="w", tenant=None) == 401
