"""Redaction over real HTTP into real spools: nothing that a rule finds is on disk."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from monitor.config import RedactionRuleSettings, RedactionSettings, Settings
from monitor.domain.trace import Trace
from monitor.ingest.counters import Tally
from monitor.ingest.treatment import Treatments
from monitor.otlp import JSON, PROTOBUF
from monitor.services.treatment import treatment
from monitor.wire import decode_trace
from tests.examples.spans import FILES, answers, recorded_bytes
from tests.support.secrets import (
    SECRET,
    hidden_in_json,
    secret_export,
    secret_export_json,
    secret_feedback,
    secret_trace,
)
from tests.support.sidecars import LocalSidecar

RULES = (RedactionRuleSettings(name="badge", regex=r"badge-[0-9]{4}"),)

PATTERNS = ("email", "secret", "card", "iban")


def settings(**changes: Any) -> Settings:
    return Settings(redaction=RedactionSettings(**{"patterns": PATTERNS, "rules": RULES, **changes}))


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[LocalSidecar]:
    with closing(LocalSidecar(tmp_path, treatment=lambda tally: treatment(settings(), tally))) as running:
        yield running


def on_disk(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def secrets_in(raw: bytes) -> Counter[str]:
    return Counter({secret: raw.count(secret.encode()) for secret in SECRET if secret.encode() in raw})


def send_all(sidecar: LocalSidecar) -> None:
    assert sidecar.post(secret_trace()).status_code == 202
    assert sidecar.post(hidden_in_json()).status_code == 202
    assert sidecar.client.post("/v1/feedback", json=secret_feedback()).status_code == 202
    for encoding, body in ((PROTOBUF, secret_export().SerializeToString()), (JSON, secret_export_json())):
        kind = "application/x-protobuf" if encoding == PROTOBUF else "application/json"
        assert sidecar.export(body, {"content-type": kind}).status_code == 200
    sidecar.assembled()


def test_nothing_that_a_rule_finds_is_on_disk(sidecar: LocalSidecar, tmp_path: Path) -> None:
    send_all(sidecar)
    assert sidecar.exports.durable == 2
    assert sidecar.spool.durable >= 4
    assert secrets_in(on_disk(tmp_path)) == Counter()
    found = sidecar.client.get("/v1/status").json()["redacted"]
    assert set(found) == {*PATTERNS, "badge"}


def test_without_rules_all_of_it_is_found(tmp_path: Path) -> None:
    plain = settings(patterns=(), rules=())
    with closing(LocalSidecar(tmp_path, treatment=lambda tally: treatment(plain, tally))) as sidecar:
        send_all(sidecar)
        assert set(secrets_in(on_disk(tmp_path))) == set(SECRET)


def test_what_is_kept_still_fulfils_the_contract(sidecar: LocalSidecar) -> None:
    send_all(sidecar)
    for spooled in sidecar.spool.read(0, limit=10):
        trace = decode_trace(spooled.entry.value, now=datetime.now(UTC))
        assert "office" in trace.question
        assert "[EMAIL]" in trace.question
        assert "[BADGE]" in "".join(document.text for document in trace.documents)


def test_ids_that_are_replaced_stay_unique_and_feedback_finds_its_trace(sidecar: LocalSidecar) -> None:
    ids = ["a@example.com", "b@example.com"]
    for trace_id in ids:
        sidecar.post({**secret_trace(), "trace_id": trace_id})
        sidecar.client.post("/v1/feedback", json={"trace_id": trace_id, "thumb": "up"})
    kept = [found["trace_id"] for found in sidecar.stored()]
    said = [json.loads(spooled.entry.value)["trace_id"] for spooled in sidecar.feedback_spool.read(0, limit=10)]
    assert len(set(kept)) == 2
    assert said == kept
    assert not set(kept) & set(ids)


def test_documents_and_tags_that_redaction_makes_alike_stay_apart(sidecar: LocalSidecar) -> None:
    names = ("a@example.com", "[EMAIL]-2", "b@example.com")
    documents = [{"id": name, "text": f"text {at}"} for at, name in enumerate(names)]
    tags = {"[EMAIL]": "plain", "a@example.com": "first", "b@example.com": "second"}
    answer = sidecar.post({**secret_trace(), "documents": documents, "tags": tags})
    assert answer.status_code == 202
    (kept,) = sidecar.stored()
    assert [document["id"] for document in kept["documents"]] == ["[EMAIL]", "[EMAIL]-2", "[EMAIL]-3"]
    assert [document["text"] for document in kept["documents"]] == [document["text"] for document in documents]
    assert kept["tags"] == {"[EMAIL]": "plain", "[EMAIL]-2": "first", "[EMAIL]-3": "second"}


def test_an_assembled_trace_whose_documents_redaction_makes_alike_is_not_lost(sidecar: LocalSidecar) -> None:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    ids = [bytes([number]) * 8 for number in range(1, 4)]
    kinds = [("CHAIN", {"input.value": "Who?", "output.value": "She."}), ("LLM", {"output.value": "She."})]
    retrieved = {}
    for at in range(2):
        retrieved[f"retrieval.documents.{at}.document.id"] = f"{at}@example.com"
        retrieved[f"retrieval.documents.{at}.document.content"] = "ab"[at]
    kinds.append(("RETRIEVER", retrieved))
    for span_id, (kind, attributes) in zip(ids, kinds, strict=True):
        parent = b"" if kind == "CHAIN" else ids[0]
        span = spans.add(trace_id=b"t" * 16, span_id=span_id, parent_span_id=parent, name=kind)
        span.start_time_unix_nano, span.end_time_unix_nano = 10**18, 10**18 + 10**9
        for key, value in {"openinference.span.kind": kind, **attributes}.items():
            span.attributes.add(key=key).value.string_value = value
    sidecar.export(request.SerializeToString(), {"content-type": "application/x-protobuf"})
    (kept,) = sidecar.assembled()
    assert len({document["id"] for document in kept["documents"]}) == 2


def test_a_hash_keeps_values_comparable(tmp_path: Path) -> None:
    keyed = settings(action="hash", hash_key="a key of sixteen")
    with closing(LocalSidecar(tmp_path, treatment=lambda tally: treatment(keyed, tally))) as sidecar:
        sidecar.post({**secret_trace(), "question": "Is it a@example.com?", "answer": "No: b@example.com."})
        (kept,) = sidecar.stored()
    marks = [text[text.index("[") : text.index("]") + 1] for text in (kept["question"], kept["answer"])]
    assert marks[0] != marks[1]
    assert all(mark.startswith("[EMAIL:") for mark in marks)


@pytest.mark.parametrize("file", FILES)
def test_recorded_traces_are_assembled_as_without_redaction(tmp_path: Path, file: str) -> None:
    careful = Settings(redaction=RedactionSettings(patterns=("secret", "card", "iban", "email", "phone")))
    with closing(
        LocalSidecar(tmp_path, max_request_bytes=1 << 24, treatment=lambda tally: treatment(careful, tally))
    ) as sidecar:
        sidecar.export(recorded_bytes(file, "pb"), {"content-type": "application/x-protobuf"})
        found = {trace["trace_id"]: trace for trace in sidecar.assembled()}
    expected = answers(file)
    assert {trace_id: trace["answer"] for trace_id, trace in found.items()} == {
        trace_id: row["answer"] for trace_id, row in expected.items()
    }


def test_an_export_without_a_finding_is_kept_byte_for_byte(tmp_path: Path) -> None:
    raw = recorded_bytes(FILES[0], "pb")
    careful = Settings(redaction=RedactionSettings(patterns=("card", "iban")))
    with closing(
        LocalSidecar(tmp_path, max_request_bytes=1 << 24, treatment=lambda tally: treatment(careful, tally))
    ) as sidecar:
        sidecar.export(raw, {"content-type": "application/x-protobuf"})
        (spooled,) = sidecar.exports.read(0, limit=2, max_bytes=1 << 28)
    kept, sent = ExportTraceServiceRequest.FromString(spooled.entry.value), ExportTraceServiceRequest.FromString(raw)
    assert kept == sent


class Watched(Treatments):
    """Redaction that remembers the threads on which it wrote something anew."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(treatment(settings(rules=()), tally))
        self.threads: list[str] = []

    def export(self, raw: bytes, encoding: str) -> bytes:
        self.threads.append(threading.current_thread().name)
        return super().export(raw, encoding)

    def trace(self, trace: Trace) -> Trace | None:
        self.threads.append(threading.current_thread().name)
        return super().trace(trace)


def export_of(text: str) -> bytes:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    span.attributes.add(key="text").value.string_value = text
    return request.SerializeToString()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[LocalSidecar, list[str]]]:
    seen: list[Watched] = []

    def make(tally: Tally) -> Watched:
        seen.append(Watched(tally))
        return seen[0]

    with closing(LocalSidecar(tmp_path, treatment=make)) as running:
        yield running, seen[0].threads


@pytest.mark.parametrize("text", ["4-", "4111 1111 1111 1112 ", "password=a ", "jane.roe@example.org "])
def test_exports_that_have_to_be_written_anew_keep_nobody_else_waiting(
    watched: tuple[LocalSidecar, list[str]], text: str
) -> None:
    sidecar, threads = watched
    kind = {"content-type": "application/x-protobuf"}
    assert sidecar.export(export_of(text * (60_000 // len(text))), kind).status_code == 200
    assert [name.partition("_")[0] for name in threads] == ["asyncio"]  # its threads for what must not run on a loop


def test_exports_of_many_numbers_keep_nobody_else_waiting(watched: tuple[LocalSidecar, list[str]]) -> None:
    sidecar, threads = watched
    request = ExportTraceServiceRequest.FromString(export_of("x"))
    for number in range(4000):
        request.resource_spans[0].resource.attributes.add(key="n").value.int_value = 400_000_000_000 + number
    kind = {"content-type": "application/x-protobuf"}
    assert sidecar.export(request.SerializeToString(), kind).status_code == 200
    assert [name.partition("_")[0] for name in threads] == ["asyncio"]


def test_an_export_that_can_hold_nothing_is_kept_after_one_look(watched: tuple[LocalSidecar, list[str]]) -> None:
    sidecar, threads = watched
    raw = export_of("The office opens at nine on weekdays. " * 200)
    assert sidecar.export(raw, {"content-type": "application/x-protobuf"}).status_code == 200
    assert threads == []
    assert sidecar.exports.read(0, limit=1)[0].entry.value == raw


@pytest.mark.parametrize(
    ("trace", "beside"),
    [
        ({"question": "4-" * 10_000}, True),
        ({"documents": [{"id": f"d{n}", "text": "t", "metadata": {"a": "b", "c": "d"}} for n in range(100)]}, True),
        ({"question": "When does the office open?" * 500}, False),
    ],
)
def test_traces_that_take_long_to_redact_keep_nobody_else_waiting(
    watched: tuple[LocalSidecar, list[str]], trace: dict[str, Any], *, beside: bool
) -> None:
    sidecar, threads = watched
    whole = {"schema": "rag_trace.v1", "service": "s", "question": "q", "documents": [], "answer": "a", **trace}
    assert sidecar.post(whole).status_code == 202
    assert [name.startswith("asyncio_") for name in threads] == [beside]
