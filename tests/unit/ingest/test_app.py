import gzip
import http.client
import json
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitor.ingest.counters import NoCounters, Tally
from monitor.wire import MAX_TRACE_BYTES, decode_trace
from tests.support.sidecars import MEBIBYTE, LocalSidecar

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PATH = "/v1/rag/traces"
JSON = {"Content-Type": "application/json"}


def trace(**changes: Any) -> dict[str, Any]:
    return {
        "trace_id": "t-1",
        "event_time": NOW.isoformat(),
        "tenant": "acme",
        "service": "support-bot",
        "question": "When does the office open?",
        "documents": [{"id": "d1", "text": "The office opens at nine."}],
        "answer": "At nine.",
        **changes,
    }


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in trace().items() if name != field}


def running_in(directory: Path, **limits: Any) -> LocalSidecar:
    return LocalSidecar(directory, sync=True, now=lambda: NOW, **limits)


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[LocalSidecar]:
    with closing(running_in(tmp_path)) as running:
        yield running


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSidecar]:
    """One for all the tests that have it refuse what they send; it must be empty in the end."""
    with closing(running_in(tmp_path_factory.mktemp("refusing"))) as running:
        yield running
        assert running.stored() == []


def only_problem(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 422
    body = response.json()
    assert body["accepted"] == 0
    assert body["trace_ids"] == []
    (rejected,) = body["rejected"]
    assert isinstance(rejected, dict)
    return rejected


# --- accepted ---


def test_one_trace_is_on_disk_when_it_is_acknowledged(sidecar: LocalSidecar) -> None:
    response = sidecar.post(trace())

    assert response.status_code == 202
    assert response.json() == {"accepted": 1, "trace_ids": ["t-1"], "rejected": []}
    (spooled,) = sidecar.spool.read(0, limit=10)
    assert spooled.entry.key == b"acme|t-1"
    assert decode_trace(spooled.entry.value, now=NOW).question == "When does the office open?"
    assert sidecar.tally.accepted_total == 1


@pytest.mark.parametrize("wrap", [lambda traces: traces, lambda traces: {"traces": traces}])
def test_many_traces_as_a_list_or_an_object(sidecar: LocalSidecar, wrap: Callable[[Any], Any]) -> None:
    response = sidecar.post(wrap([trace(trace_id=f"t-{n}") for n in range(20)]))

    assert response.status_code == 202
    assert response.json()["trace_ids"] == [f"t-{n}" for n in range(20)]
    assert [stored["trace_id"] for stored in sidecar.stored()] == [f"t-{n}" for n in range(20)]


def test_one_trace_a_line(sidecar: LocalSidecar) -> None:
    lines = [json.dumps(trace(trace_id="t-1")), "", "{broken", json.dumps(trace(trace_id="t-2")), ""]
    response = sidecar.post_raw("\r\n".join(lines).encode(), Content_Type="application/x-ndjson; charset=utf-8")

    assert response.status_code == 202
    body = response.json()
    assert body["trace_ids"] == ["t-1", "t-2"]
    (rejected,) = body["rejected"]
    assert (rejected["index"], rejected["field"]) == (1, "$")
    assert "the line is not JSON" in rejected["problem"]


def test_an_empty_batch_is_no_error(sidecar: LocalSidecar) -> None:
    response = sidecar.post([])
    assert response.status_code == 202
    assert response.json() == {"accepted": 0, "trace_ids": [], "rejected": []}


@pytest.mark.parametrize("field", ["trace_id", "event_time"])
@pytest.mark.parametrize("make", [without, lambda field: trace(**{field: None})])
def test_id_and_time_are_filled_in_where_they_are_missing(
    sidecar: LocalSidecar, field: str, make: Callable[[str], dict[str, Any]]
) -> None:
    response = sidecar.post(make(field))

    assert response.status_code == 202
    (stored,) = sidecar.stored()
    assert response.json()["trace_ids"] == [stored["trace_id"]]
    assert stored["trace_id"] == ("made-0" if field == "trace_id" else "t-1")
    assert datetime.fromisoformat(stored["event_time"]) == NOW


def test_gzip_is_taken(sidecar: LocalSidecar) -> None:
    response = sidecar.post_raw(gzip.compress(json.dumps(trace()).encode()), Content_Encoding="gzip")
    assert response.json()["accepted"] == 1


def test_a_byte_order_mark_is_no_problem(sidecar: LocalSidecar) -> None:
    assert sidecar.post_raw(b"\xef\xbb\xbf" + json.dumps(trace()).encode()).status_code == 202


@pytest.mark.parametrize(
    ("sent", "field", "kept"),
    [
        (trace(answer=""), "answer", ""),
        (trace(documents=[]), "documents", []),
        (trace(event_time="2001-02-03T04:05:06Z"), "event_time", "2001-02-03T04:05:06Z"),
        (trace(event_time=(NOW + timedelta(minutes=59)).isoformat()), "event_time", "2026-05-01T12:59:00Z"),
        (trace(answer="a\x00b"), "answer", "a\N{REPLACEMENT CHARACTER}b"),
        (trace(answer="\x1b[2J \u202e"), "answer", "\x1b[2J \u202e"),
        (trace(answer="naïve 🎉"), "answer", "naïve 🎉"),
    ],
    ids=["empty answer", "no documents", "years old", "an hour ahead", "NUL", "control characters", "Unicode"],
)
def test_odd_but_allowed(sidecar: LocalSidecar, sent: dict[str, Any], field: str, kept: object) -> None:
    assert sidecar.post(sent).status_code == 202
    (stored,) = sidecar.stored()
    assert stored[field] == kept


def test_unknown_fields_are_ignored(sidecar: LocalSidecar) -> None:
    assert sidecar.post(trace(colour="blue", nested={"a": [1]})).status_code == 202
    (stored,) = sidecar.stored()
    assert "colour" not in stored


def test_a_trace_sent_twice_is_accepted_twice_for_the_ledger_to_join(sidecar: LocalSidecar) -> None:
    assert sidecar.post([trace(), trace()]).json()["accepted"] == 2
    assert sidecar.post(trace()).json()["accepted"] == 1
    assert len({spooled.entry.key for spooled in sidecar.spool.read(0, limit=10)}) == 1


# --- traces that are rejected ---


@pytest.mark.parametrize(
    ("sent", "field", "problem"),
    [
        (without("answer"), "answer", "required"),
        (without("documents"), "documents", "required"),
        (without("service"), "service", "required"),
        (trace(answer=None), "answer", "string"),
        (trace(answer=7), "answer", "string"),
        (trace(documents="none"), "documents", "array"),
        (trace(documents=[{"id": "d"}]), "documents[0].text", "required"),
        (trace(documents=[{"id": "d", "text": "t", "score": "high"}]), "documents[0].score", "number"),
        (trace(service="no spaces please"), "service", "pattern"),
        (trace(trace_id="two words"), "trace_id", "pattern"),
        (trace(trace_id="x" * 129), "trace_id", "128"),
        (trace(event_time="yesterday"), "event_time", "is written as"),
        (trace(event_time="2026-05-01T12:00:00"), "event_time", "time zone"),
        (trace(event_time=(NOW + timedelta(hours=2)).isoformat()), "event_time", "future"),
        (trace(event_time="1999-01-01T00:00:00Z"), "event_time", "before 2000"),
        (trace(schema="rag_trace.v2"), "schema", "rag_trace.v1"),
        (trace(tags={"k": 1}), "tags.k", "string"),
        ("just text", "$", "object"),
        ([1], "$", "object"),
        (None, "$", "object"),
    ],
)
def test_a_broken_trace_is_rejected_by_the_name_of_its_field(
    refusing: LocalSidecar, sent: Any, field: str, problem: str
) -> None:
    rejected = only_problem(refusing.post([sent]))

    assert rejected["index"] == 0
    assert rejected["field"] == field
    assert problem in rejected["problem"]
    assert refusing.stored() == []


def test_the_good_ones_of_a_batch_are_accepted(sidecar: LocalSidecar) -> None:
    response = sidecar.post([trace(trace_id="a"), trace(trace_id="b", answer=1), 3, trace(trace_id="c")])

    assert response.status_code == 202
    body = response.json()
    assert (body["accepted"], body["trace_ids"]) == (2, ["a", "c"])
    assert [(r["index"], r.get("trace_id"), r["field"]) for r in body["rejected"]] == [
        (1, "b", "answer"),
        (2, None, "$"),
    ]
    assert sidecar.tally.refusals == {"invalid:answer": 1, "invalid": 1}


@pytest.mark.parametrize(
    ("sent", "field", "place"),
    [
        (trace(answer="ab\ud800c"), "answer", "character 2"),
        (trace(documents=[{"id": "d", "text": "\udfff"}]), "documents[0].text", "character 0"),
        (trace(tags={"\ud800": "v"}), "tags", "name"),
    ],
)
def test_a_lone_surrogate_costs_its_own_trace_alone(sidecar: LocalSidecar, sent: Any, field: str, place: str) -> None:
    response = sidecar.post_raw(json.dumps([trace(trace_id="good"), sent]).encode())

    assert response.status_code == 202
    body = response.json()
    assert body["trace_ids"] == ["good"]
    (rejected,) = body["rejected"]
    assert (rejected["index"], rejected["field"]) == (1, field)
    assert "lone surrogate" in rejected["problem"]
    assert place in rejected["problem"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_none_is_rejected(refusing: LocalSidecar, number: str) -> None:
    body = json.dumps(trace(documents=[{"id": "d", "text": "t", "score": "NUMBER"}])).replace('"NUMBER"', number)
    assert only_problem(refusing.post_raw(body.encode()))["field"].startswith("documents[0].score")


def test_a_trace_of_ten_megabytes_is_rejected_with_its_size(tmp_path: Path) -> None:
    with closing(running_in(tmp_path, max_request_bytes=16 * MEBIBYTE)) as sidecar:
        documents = [{"id": f"d{n}", "text": "x" * 1_000_000} for n in range(10)]
        response = sidecar.post([trace(trace_id="big", documents=documents), trace(trace_id="small")])

        assert response.status_code == 202
        assert response.json()["trace_ids"] == ["small"]
        (rejected,) = response.json()["rejected"]
        assert (rejected["trace_id"], rejected["field"]) == ("big", "$")
        assert str(MAX_TRACE_BYTES) in rejected["problem"]
        assert sidecar.tally.refusals == {"too_large": 1}


def test_what_is_stored_never_exceeds_what_readers_take(sidecar: LocalSidecar) -> None:
    padding = MAX_TRACE_BYTES - len(json.dumps(without("tenant"), separators=(",", ":")))
    text = "x" * (padding // 2)
    documents = [{"id": "d", "text": text}, {"id": "e", "text": text[:-60]}]
    response = sidecar.post({**without("tenant"), "documents": documents})

    stored = sidecar.spool.read(0, limit=1, max_bytes=1 << 30)
    assert response.status_code == (202 if stored else 422)
    assert all(len(spooled.entry.value) <= MAX_TRACE_BYTES for spooled in stored)


def test_hostile_text_is_not_echoed_raw(refusing: LocalSidecar) -> None:
    nasty = "\x1b]0;owned\x07\u202e\x9b"
    response = refusing.post(trace(trace_id=nasty, tags={nasty: 1}, answer=2))

    assert response.status_code == 422
    assert response.content.isascii()
    assert all(32 <= byte < 127 for byte in response.content)
    for text in (str(value) for value in only_problem(response).values()):
        assert not any(char in text for char in nasty if not char.isprintable())
    assert "trace_id" not in only_problem(response)


def test_a_long_name_is_cut_in_the_answer(refusing: LocalSidecar) -> None:
    response = refusing.post(trace(tags={"k" * 100_000: "v"}))
    assert response.status_code == 422
    assert len(response.content) < 2000


# --- requests that are refused ---


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "column 0"),
        (b"hello", "line 1 column 1"),
        (b'{"a": 1', "line 1 column 7"),
        (b'{"a": 1} trailing', "trailing"),
        (b'"\xff\xfe"', "line 1"),
        (b"[" * 100_000, "recursion"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "number"),
    ],
    ids=["empty", "text", "cut short", "trailing", "not UTF-8", "deep", "endless number"],
)
def test_not_json_is_refused_with_the_place(sidecar: LocalSidecar, body: bytes, place: str) -> None:
    response = sidecar.post_raw(body)

    assert response.status_code == 400
    assert response.json()["reason"] == "not_json"
    assert place in response.json()["problem"]
    assert sidecar.tally.refusals == {"not_json": 1}


@pytest.mark.parametrize("value", [7, "text", None, {"traces": 5}])
def test_json_that_holds_no_traces_is_refused(refusing: LocalSidecar, value: Any) -> None:
    response = refusing.post_raw(json.dumps(value).encode())
    assert response.status_code == 422
    assert response.json()["reason"] == "invalid"


def test_too_many_traces_are_refused_as_a_whole(sidecar: LocalSidecar) -> None:
    response = sidecar.post([trace()] * 21)
    assert response.status_code == 413
    assert response.json() == {
        "accepted": 0,
        "reason": "too_many",
        "problem": "more than 20 traces in one request",
    }
    assert sidecar.stored() == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[" + b"{}," * 600_000 + b"{}]", "application/json"),
        (b'{"traces": [' + b"[[]]," * 300_000 + b"[]]}", "application/json"),
        (b"{}\n" * 600_000, "application/x-ndjson"),
    ],
)
def test_what_would_unfold_into_millions_of_objects_is_refused_unread(
    refusing: LocalSidecar, body: bytes, kind: str
) -> None:
    response = refusing.post_raw(gzip.compress(body), content_type=kind, content_encoding="gzip")
    assert response.status_code == 413
    assert response.json()["reason"] == "too_many"
    assert "more than 500000 objects and lists" in response.json()["problem"]


def test_brackets_in_texts_are_no_objects(sidecar: LocalSidecar) -> None:
    text = 'She said "[{\\' * 80_000
    documents = [{"id": "d", "text": text}]
    assert sidecar.post([trace(trace_id=f"t-{n}", documents=documents) for n in range(3)]).status_code == 202
    assert len(sidecar.stored()) == 3


def test_a_large_body_is_refused_before_it_is_sent(sidecar: LocalSidecar) -> None:
    with closing(socket.create_connection(sidecar.listener.getsockname())) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n"
        connection.sendall(head.encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 413
        assert json.loads(answer.read())["reason"] == "too_large"


def test_a_large_body_without_a_length_is_refused_at_the_limit(sidecar: LocalSidecar) -> None:
    sent = []

    def endless() -> Iterator[bytes]:
        for _ in range(2000):
            sent.append(1)
            yield b" " * 65536

    try:
        response = sidecar.post_raw(endless())
    except httpx.WriteError:
        pass  # the server hung up while we were still writing: as well as an answer
    else:
        assert response.status_code == 413
    assert len(sent) < 1000
    assert sidecar.tally.refusals == {"too_large": 1}


def test_a_gzip_bomb_is_refused_at_the_limit(refusing: LocalSidecar) -> None:
    bomb = gzip.compress(b"[" + b" " * 200_000_000, compresslevel=1)
    assert len(bomb) < 4 * MEBIBYTE
    response = refusing.post_raw(bomb, Content_Encoding="gzip")
    assert response.status_code == 413
    assert "once decompressed" in response.json()["problem"]


@pytest.mark.parametrize(
    "body", [b"not gzip", gzip.compress(b"[]")[:-4], gzip.compress(b"[]") + b"more"], ids=["text", "cut", "followed"]
)
def test_broken_gzip_is_refused(refusing: LocalSidecar, body: bytes) -> None:
    response = refusing.post_raw(body, Content_Encoding="gzip")
    assert response.status_code == 400
    assert "gzip" in response.json()["problem"]


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"Content_Type": "text/plain"}, "Content-Type"),
        ({"Content_Type": "application/x-www-form-urlencoded"}, "Content-Type"),
        ({"Content_Encoding": "br"}, "Content-Encoding"),
    ],
)
def test_other_types_and_encodings_are_refused(refusing: LocalSidecar, headers: dict[str, str], word: str) -> None:
    response = refusing.post_raw(json.dumps(trace()).encode(), **headers)
    assert response.status_code == 415
    assert word in response.json()["problem"]


def test_a_body_that_does_not_come_is_given_up(sidecar: LocalSidecar) -> None:
    with closing(socket.create_connection(sidecar.listener.getsockname())) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b"[")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 408
    assert sidecar.tally.refusals == {"too_slow": 1}


def test_a_caller_that_hangs_up_is_no_error(sidecar: LocalSidecar) -> None:
    with closing(socket.create_connection(sidecar.listener.getsockname())) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b"[")
    assert sidecar.post(trace()).status_code == 202
    assert sidecar.tally.refusals == {}


def test_bodies_share_a_memory_limit(tmp_path: Path) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n\r\n"
    with closing(running_in(tmp_path, max_request_bytes=MEBIBYTE, body_seconds=20)) as sidecar, ExitStack() as stack:
        callers = [socket.create_connection(sidecar.listener.getsockname()) for _ in range(5)]
        for caller in callers:
            stack.enter_context(closing(caller))
            # None is complete, so that each is held; together they exceed four requests' worth.
            caller.sendall(head.encode() + b" " * 1_040_000)
        (answered,), _, _ = select.select(callers, [], [], 20)
        refused = http.client.HTTPResponse(answered)
        refused.begin()
        assert refused.status == 503
        assert refused.headers["Retry-After"] == "1"
        assert json.loads(refused.read())["reason"] == "busy"
        assert sidecar.post(trace()).status_code == 202
        assert sidecar.tally.refusals == {"busy": 1}


def test_a_full_spool_asks_to_come_back(tmp_path: Path) -> None:
    with closing(running_in(tmp_path, spool_bytes=MEBIBYTE)) as sidecar:
        big = trace(answer="x" * 60_000)
        responses = [sidecar.post(big) for _ in range(20)]

        refused = responses[-1]
        assert responses[0].status_code == 202
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "5"
        assert refused.json()["reason"] == "spool_full"
        assert sum(response.status_code == 202 for response in responses) == len(sidecar.stored())


@pytest.mark.parametrize(
    ("failure", "reason"),
    [("pragma max_page_count = 1", "spool_full"), ("drop table records", "spool_unavailable")],
    ids=["disk full", "file broken"],
)
def test_a_failing_disk_is_the_callers_to_know(sidecar: LocalSidecar, failure: str, reason: str) -> None:
    sidecar.spool._file._writer.execute(failure)
    response = sidecar.post(trace(answer="x" * 60_000))
    assert (response.status_code, response.json()["reason"]) == (503, reason)
    assert response.headers["Retry-After"] == "5"
    assert sidecar.tally.accepted_total == 0
    assert "cannot be written" in sidecar.client.get("/readyz").json()["problem"]


# --- what operators look at ---


def test_alive_and_ready(sidecar: LocalSidecar) -> None:
    assert sidecar.client.get("/healthz").status_code == 200
    response = sidecar.client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"ready": True, "problem": None})


def test_not_ready_without_a_spool_but_alive(sidecar: LocalSidecar) -> None:
    sidecar.spool.close()
    assert sidecar.client.get("/healthz").status_code == 200
    response = sidecar.client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["problem"] == "the spool is closed"
    refused = sidecar.post(trace())
    assert (refused.status_code, refused.json()["reason"]) == (503, "spool_unavailable")


def test_status_tells_counts_and_what_waits(sidecar: LocalSidecar) -> None:
    sidecar.post([trace(), trace(answer=1)])
    sidecar.post_raw(b"nonsense")
    status = sidecar.client.get("/v1/status").json()

    assert status["accepted"] == 1
    assert status["refused"] == {"invalid:answer": 1, "not_json": 1}
    assert status["spool"]["records"] == 1
    assert status["spool"]["oldest_seconds"] == 0
    assert status["kafka"] == {"state": "untried", "in_flight": 0, "retries": 0, "problem": None}

    sidecar.forwarder.start()
    assert sidecar.forwarder.stop(drain_seconds=10)
    status = sidecar.client.get("/v1/status").json()
    assert (status["forwarded"], status["kafka"]["state"]) == (1, "up")
    assert [key for _, key, _ in sidecar.kafka.records] == [b"acme|t-1"]


def test_unknown_paths_and_methods(refusing: LocalSidecar) -> None:
    assert refusing.client.get("/v1/nothing").status_code == 404
    assert refusing.client.get(PATH).status_code == 405


def test_counters_that_count_nothing_take_everything() -> None:
    tally = Tally(then=NoCounters())
    tally.accepted(2)
    tally.forwarded(1)
    tally.set_aside(1)
    tally.retried()
    assert (tally.accepted_total, tally.forwarded_total, tally.set_aside_total, tally.retries_total) == (2, 1, 1, 1)
