"""The tee, against a real endpoint that is up, slow, busy, hanging or away."""

import gzip
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from monitor.ingest.forward import Backoff
from monitor.ingest.tee import Tee
from monitor.ingest.tee_counters import TeeDrop, TeeState
from monitor.ingest.tee_queue import PassedExport, TeeQueue
from monitor.ingest.tee_target import TeeTarget, retry_after
from monitor.ingest.treatment import NoTreatment
from monitor.otlp import JSON, PROTOBUF
from monitor.outbound import HttpAnswer
from tests.examples.spans import recorded_bytes
from tests.support.collectors import Collector, until
from tests.support.grpc_exporter import Exporter
from tests.support.sidecars import MEBIBYTE, LocalSidecar
from tests.unit.ingest.test_otlp import batches

QUICK = Backoff(first_seconds=0.01, limit_seconds=0.02)
KIB = 1024


class Counted:
    """Counters that keep what they hear."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.sizes: list[int] = []

    def passed_on(self) -> None:
        self.heard.append(("forwarded", 1))

    def retried(self) -> None:
        self.heard.append(("retried", 1))

    def dropped(self, reason: TeeDrop, count: int) -> None:
        self.heard.append((reason.value, count))

    def waiting(self, size_bytes: int) -> None:
        self.sizes.append(size_bytes)


class Teed:
    """A tee before a collector."""

    def __init__(self, stack: ExitStack, *, max_bytes: int = 64 * MEBIBYTE, **target: Any) -> None:
        self.collector, self.counted = Collector(), Counted()
        self.target = TeeTarget(endpoint=self.collector.url, **{"backoff": QUICK, **target})
        self.tee = Tee(self.target, max_bytes=max_bytes, counters=self.counted)
        self.tee.start()
        stack.callback(self.tee.join, seconds=20)
        stack.callback(self.tee.finish, seconds=0)

    def offer(self, *bodies: bytes) -> None:
        for body in bodies:
            self.tee.offer(body, encoding=PROTOBUF, compression="")

    def stop(self, seconds: float = 20) -> TeeState:
        self.tee.finish(seconds=seconds)
        self.tee.join(seconds=seconds + 20)
        return self.tee.state


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as exits:
        yield exits


def numbered(count: int, size: int = 10) -> list[bytes]:
    return [f"{number:04}".encode().ljust(size, b".") for number in range(count)]


def test_exports_are_passed_on_in_order_with_the_operators_headers(stack: ExitStack) -> None:
    teed = Teed(stack, headers={"x-api-key": "k"})
    stack.enter_context(teed.collector.serving())
    teed.offer(*numbered(300))
    state = teed.stop()
    assert teed.collector.taken == numbered(300)
    assert {seen.headers["x-api-key"] for seen in teed.collector.seen} == {"k"}
    assert state == TeeState(forwarded=300, dropped={}, retries=0, waiting=0, waiting_bytes=0, problem=None)
    assert teed.counted.heard == [("forwarded", 1)] * 300
    assert teed.counted.sizes[-1] == 0


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_succeed_later_is_sent_again_and_order_is_kept(stack: ExitStack, status: int) -> None:
    teed = Teed(stack)
    teed.collector.answers = [(status, {}), (status, {}), (200, {}), (status, {})]
    stack.enter_context(teed.collector.serving())
    teed.offer(*numbered(5))
    until(lambda: teed.tee.state.forwarded == 5)
    assert teed.collector.taken == numbered(5)
    assert [seen.body for seen in teed.collector.seen][:4] == [numbered(1)[0]] * 3 + [numbered(2)[1]]
    assert (teed.tee.state.retries, teed.tee.state.dropped, teed.tee.state.problem) == (3, {}, None)
    assert teed.counted.heard.count(("retried", 1)) == 3


def test_retry_after_is_honoured(stack: ExitStack) -> None:
    teed = Teed(stack)
    teed.collector.answers = [(503, {"retry-after": "1"})]
    stack.enter_context(teed.collector.serving())
    teed.offer(b"one")
    until(lambda: teed.tee.state.forwarded == 1)
    first, second = teed.collector.seen
    # Not a question of speed: it may never come sooner. The back-off of its own is a hundredth.
    assert second.at - first.at >= 1.0


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("7", 7.0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("Thu, 01 Jan 2026 00:01:00", 0.0),
        ("9" * 400, 999_999_999.0),
        ("-3", 0.0),
        ("soon", 0.0),
        ("", 0.0),
    ],
)
def test_retry_after_is_read_in_both_forms(written: str, seconds: float) -> None:
    answer = HttpAnswer(status=503, headers={"retry-after": written}, body=b"")
    assert retry_after(answer, now=datetime(2026, 1, 1, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("status", [301, 400, 401, 413, 500])
def test_what_cannot_succeed_is_dropped_and_holds_up_no_other(stack: ExitStack, status: int) -> None:
    teed = Teed(stack)
    teed.collector.answers = [(status, {"location": "http://127.0.0.1:1/"})]
    stack.enter_context(teed.collector.serving())
    teed.offer(b"bad", b"good")
    until(lambda: teed.tee.state.forwarded == 1)
    assert teed.collector.taken == [b"good"]
    assert teed.tee.state.dropped == {"refused": 1}
    assert teed.counted.heard == [("refused", 1), ("forwarded", 1)]


def test_an_endpoint_that_hangs_is_asked_again(stack: ExitStack) -> None:
    teed = Teed(stack, seconds=0.2)
    teed.collector.answers = [(0, {}), (0, {})]
    stack.enter_context(teed.collector.serving())
    teed.offer(*numbered(3))
    until(lambda: teed.tee.state.forwarded == 3)
    assert teed.collector.taken == numbered(3)
    assert teed.tee.state.retries == 2


def test_an_endpoint_that_comes_back_gets_what_waited(stack: ExitStack) -> None:
    teed = Teed(stack)
    teed.offer(*numbered(20))
    until(lambda: teed.tee.state.problem is not None)
    assert teed.tee.state.waiting == 20
    with teed.collector.serving():
        until(lambda: teed.tee.state.forwarded == 20)
    teed.offer(b"later")
    until(lambda: teed.tee.state.problem is not None)
    with teed.collector.serving():
        until(lambda: teed.tee.state.forwarded == 21)
    assert teed.collector.taken == [*numbered(20), b"later"]
    assert teed.tee.state.dropped == {}


def test_an_export_that_fails_for_too_long_is_given_up_and_the_next_one_tried(stack: ExitStack) -> None:
    teed = Teed(stack, give_up_seconds=0.5)
    teed.collector.answers = [(503, {"retry-after": "60"})]
    stack.enter_context(teed.collector.serving())
    teed.offer(b"cursed", b"good")
    until(lambda: teed.tee.state.forwarded == 1)
    assert teed.collector.taken == [b"good"]
    assert teed.tee.state.dropped == {"gave_up": 1}


def test_when_the_queue_is_full_the_oldest_are_dropped_and_counted(stack: ExitStack) -> None:
    teed = Teed(stack, max_bytes=100 * KIB)
    sent = numbered(100, size=10 * KIB)
    teed.offer(*sent)
    state = teed.tee.state
    assert state.waiting_bytes <= 100 * KIB
    assert state.waiting + state.dropped["full"] == 100
    stack.enter_context(teed.collector.serving())
    until(lambda: teed.tee.state.waiting == 0)
    # The first may have been in hand when the others pushed one another out.
    newest = [body for body in teed.collector.taken if body != sent[0]]
    assert newest == sent[-len(newest) :]
    assert len(newest) >= 8
    assert len(teed.collector.taken) + teed.tee.state.dropped["full"] == 100


def test_stopping_sends_what_waits(stack: ExitStack) -> None:
    teed = Teed(stack)
    teed.collector.pause = 0.01
    stack.enter_context(teed.collector.serving())
    teed.offer(*numbered(30))
    state = teed.stop()
    assert (state.forwarded, state.waiting, state.dropped) == (30, 0, {})


def test_stopping_does_not_wait_for_an_endpoint_that_is_away(stack: ExitStack) -> None:
    teed = Teed(stack, backoff=Backoff(first_seconds=600, limit_seconds=600), give_up_seconds=10_000)
    teed.offer(*numbered(3))
    until(lambda: teed.tee.state.retries == 1)
    state = teed.stop(seconds=600)
    assert (state.forwarded, state.waiting, state.dropped) == (0, 0, {"stopped": 3})
    assert teed.counted.heard[-1] == ("stopped", 3)


def test_stopping_cuts_off_an_endpoint_that_hangs(stack: ExitStack) -> None:
    teed = Teed(stack, seconds=600)
    teed.collector.answers = [(0, {})]
    stack.enter_context(teed.collector.serving())
    teed.offer(*numbered(3))
    until(lambda: len(teed.collector.seen) == 1)
    assert teed.stop(seconds=0.2).dropped == {"stopped": 3}
    # Whoever comes later does no harm, and is counted nowhere as forwarded.
    teed.offer(b"late")
    assert teed.tee.state.forwarded == 0


@pytest.mark.parametrize(
    "endpoint", ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces", "http://c:4318/v1/traces/"]
)
def test_the_endpoint_may_be_the_base_or_the_path(endpoint: str) -> None:
    assert TeeTarget(endpoint=endpoint).url == "http://c:4318/v1/traces"
    assert replace(TeeTarget(endpoint=endpoint), endpoint="http://c/otlp").url == "http://c/otlp/v1/traces"


def test_an_export_that_no_queue_has_room_for_is_dropped_and_no_other_for_it() -> None:
    queue = TeeQueue(10 * KIB)
    small = PassedExport(body=b"small", encoding=PROTOBUF, compression="")
    assert queue.put(small) == 0
    assert queue.put(replace(small, body=bytes(11 * KIB))) == 1
    assert queue.waiting == (1, small.size)
    assert queue.take() == small
    # What is in hand takes its room until it is done.
    assert queue.put(replace(small, body=bytes(9 * KIB))) == 1
    queue.done()
    assert queue.put(replace(small, body=bytes(9 * KIB))) == 0
    assert queue.dropped == {"full": 2}


def test_empty_exports_are_not_free() -> None:
    queue = TeeQueue(10 * KIB)
    dropped = sum(queue.put(PassedExport(body=b"", encoding=PROTOBUF, compression="")) for _ in range(1000))
    assert queue.waiting[1] <= 10 * KIB
    assert queue.waiting[0] + dropped == 1000
    assert queue.dropped == {"full": dropped}


class Blackening(NoTreatment):
    """Stands for redaction: nothing of what was sent is kept."""

    def leaves(self, raw: bytes, encoding: str) -> bool:  # noqa: ARG002 - whatever they are
        return False

    def export(self, raw: bytes, encoding: str) -> bytes:  # noqa: ARG002 - nothing of either is kept
        return b""


def test_what_was_acknowledged_is_passed_on_as_it_was_sent_by_either_protocol(tmp_path: Path, stack: ExitStack) -> None:
    teed = Teed(stack)
    stack.enter_context(teed.collector.serving())
    sidecar = stack.enter_context(
        closing(LocalSidecar(tmp_path, tee=teed.tee, treatment=lambda _: Blackening(), body_seconds=30))
    )
    exporter = stack.enter_context(closing(Exporter(sidecar.grpc_address)))
    plain, json = batches("oi-langchain", seed=1)[0], recorded_bytes("oi-langchain", "json")
    packed = gzip.compress(plain)
    protobuf = {"content-type": "application/x-protobuf"}
    sidecar.export(plain, protobuf)
    sidecar.export(packed, {**protobuf, "content-encoding": "gzip"})
    sidecar.export(json, {"content-type": "application/json; charset=utf-8"})
    exporter.send(plain)
    exporter.send(packed)
    refused = [sidecar.export(b"nonsense", protobuf), sidecar.export(plain, {"content-type": "text/plain"})]
    assert [response.status_code for response in refused] == [400, 415]
    teed.stop()

    def told(body: bytes, content_type: str, encoding: str | None) -> tuple[bytes, str, str | None]:
        return body, content_type, encoding

    found = [told(s.body, s.headers["content-type"], s.headers.get("content-encoding")) for s in teed.collector.seen]
    kind = "application/x-protobuf"
    assert found == [
        (plain, kind, None),
        (packed, kind, "gzip"),
        (json, "application/json", None),
        (plain, kind, None),
        (packed, kind, "gzip"),
    ]
    status = sidecar.client.get("/v1/status").json()["tee"]
    assert status == {
        "forwarded": 5,
        "dropped": {},
        "retries": 0,
        "waiting": 0,
        "waiting_bytes": 0,
        "problem": None,
    }


@pytest.mark.parametrize("endpoint", ["down", "hanging", "busy"])
def test_intake_does_not_wait_for_an_endpoint_in_trouble(tmp_path: Path, stack: ExitStack, endpoint: str) -> None:
    teed = Teed(stack, seconds=600, backoff=Backoff(first_seconds=600, limit_seconds=600), give_up_seconds=10_000)
    if endpoint != "down":
        teed.collector.answers = [(0 if endpoint == "hanging" else 503, {"retry-after": "600"})] * 100
        stack.enter_context(teed.collector.serving())
    sidecar = stack.enter_context(closing(LocalSidecar(tmp_path, tee=teed.tee, body_seconds=30)))
    sent = batches("oi-langchain", seed=1)
    for batch in sent:
        response = sidecar.export(batch, {"content-type": "application/x-protobuf"})
        assert response.status_code == 200
    assert len(sidecar.assembled()) == 40
    state = teed.tee.state
    assert (state.forwarded, state.waiting, state.dropped) == (0, len(sent), {})
    assert teed.stop(seconds=0.1).dropped == {"stopped": len(sent)}


def test_json_exports_say_so() -> None:
    export = PassedExport(body=b"{}", encoding=JSON, compression=" X-GZIP ")
    assert export.headers == {"content-type": "application/json", "content-encoding": "gzip"}
    assert PassedExport(body=b"{}", encoding=JSON, compression="identity").headers == {
        "content-type": "application/json"
    }
