import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from monitor.domain.feedback import Feedback, Thumb
from monitor.ingest.callers import Caller
from monitor.ingest.counters import Refusal
from monitor.ingest.refused import RequestRefused
from monitor.ingest.treatment import NoTreatment
from monitor.wire import MAX_FEEDBACK_BYTES, decode_feedback
from tests.support.sidecars import LocalSidecar

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PATH = "/v1/feedback"


def said(**changes: Any) -> dict[str, Any]:
    return {"feedback_id": "f-1", "trace_id": "t-1", "thumb": "down", **changes}


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[LocalSidecar]:
    with closing(LocalSidecar(tmp_path, sync=True, now=lambda: NOW)) as running:
        yield running


def test_feedback_is_on_disk_when_it_is_acknowledged(sidecar: LocalSidecar) -> None:
    response = sidecar.feed_back(said(tenant="acme", comment="It said ten."))

    assert response.status_code == 202
    assert response.json() == {"accepted": 1, "feedback_ids": ["f-1"], "rejected": []}
    (spooled,) = sidecar.feedback_spool.read(0, limit=10)
    assert spooled.entry.key == b"acme|t-1"
    found = decode_feedback(spooled.entry.value, now=NOW)
    assert (found.thumb, found.comment, found.time) == (Thumb.DOWN, "It said ten.", NOW)
    assert sidecar.stored() == []


def test_the_key_is_opentelemetrys_id_where_there_is_no_other(sidecar: LocalSidecar) -> None:
    sidecar.feed_back(said(trace_id=None, otel_trace_id="0af7651916cd43dd8448eb211c80319c"))
    (spooled,) = sidecar.feedback_spool.read(0, limit=10)
    assert spooled.entry.key == b"default|0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("wrap", [lambda many: many, lambda many: {"feedback": many}])
def test_a_list_or_an_object_with_one(sidecar: LocalSidecar, wrap: Callable[[Any], Any]) -> None:
    response = sidecar.feed_back(wrap([said(feedback_id=f"f-{number}") for number in range(20)]))
    assert response.json()["feedback_ids"] == [f"f-{number}" for number in range(20)]
    assert len(sidecar.feedback()) == 20


def test_one_a_line_packed_and_the_bad_line_costs_no_other(sidecar: LocalSidecar) -> None:
    lines = [json.dumps(said(feedback_id="f-1")), "{broken", json.dumps(said(feedback_id="f-2"))]
    headers = {"content-type": "application/x-ndjson", "content-encoding": "gzip"}
    response = sidecar.client.post(PATH, content=gzip.compress("\n".join(lines).encode()), headers=headers)

    assert response.status_code == 202
    assert response.json()["feedback_ids"] == ["f-1", "f-2"]
    assert [(one["index"], one["field"]) for one in response.json()["rejected"]] == [(1, "$")]


def test_id_and_time_are_filled_in_where_they_are_missing(sidecar: LocalSidecar) -> None:
    assert sidecar.feed_back({"trace_id": "t", "outcome": "resolved"}).json()["feedback_ids"] == ["made-0"]
    (stored,) = sidecar.feedback()
    assert (stored["feedback_id"], datetime.fromisoformat(stored["time"])) == ("made-0", NOW)


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (said(trace_id=None), "$"),
        (said(thumb=None), "$"),
        (said(thumb="sideways"), "thumb"),
        (said(outcome="was resolved"), "outcome"),
        (said(comment="x" * 65_537), "comment"),
        (said(comment="\ud800"), "comment"),
        (said(time="2026-05-01T14:00:00Z"), "time"),
        (said(filler="x" * MAX_FEEDBACK_BYTES), "$"),
        ("down", "$"),
    ],
)
def test_what_breaks_the_contract_is_rejected_with_its_field(sidecar: LocalSidecar, sent: Any, field: str) -> None:
    response = sidecar.client.post(PATH, content=json.dumps([sent]), headers={"content-type": "application/json"})

    assert response.status_code == 422
    (rejected,) = response.json()["rejected"]
    assert (rejected["index"], rejected["field"]) == (0, field)
    assert rejected.get("feedback_id") == ("f-1" if isinstance(sent, dict) else None)
    assert sidecar.feedback() == []


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"{", {}, 400, "not_json"),
        (b"5", {}, 422, "invalid"),
        (json.dumps([said()] * 21).encode(), {}, 413, "too_many"),
        (b"x" * (4 * 1024 * 1024 + 1), {}, 413, "too_large"),
        (b"a=1", {"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported"),
        (b"not gzip", {"content-encoding": "gzip"}, 400, "not_json"),
    ],
)
def test_a_request_is_refused_as_one_of_traces_is(
    sidecar: LocalSidecar, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    sent = {"content-type": "application/json", **headers}
    answers = [sidecar.client.post(path, content=body, headers=sent) for path in (PATH, "/v1/rag/traces")]
    assert [(one.status_code, one.json()["reason"]) for one in answers] == [(status, reason)] * 2
    assert sidecar.feedback_tally.refusals == {reason: 1}


def test_a_full_spool_of_feedback_refuses_feedback_only(tmp_path: Path) -> None:
    with closing(LocalSidecar(tmp_path, now=lambda: NOW, spool_bytes=1024 * 1024)) as sidecar:
        many = [said(feedback_id=f"f-{number}", comment="x" * 60_000) for number in range(20)]
        refused = sidecar.feed_back(many)
        assert (refused.status_code, refused.json()["reason"]) == (503, "spool_full")
        assert sidecar.client.get("/readyz").status_code == 200
        assert sidecar.post({"trace_id": "t", "service": "s", "question": "", "documents": [], "answer": ""}).is_success


class ForTokens:
    """Each caller is its tenant."""

    def admit(self, authorization: str | None) -> Caller:
        if not authorization:
            raise RequestRefused(401, Refusal.INVALID, "say who you are")
        return Caller(tenant=authorization)


def test_callers_are_let_in_and_given_their_tenant_as_for_traces(tmp_path: Path) -> None:
    with closing(LocalSidecar(tmp_path, now=lambda: NOW, gate=ForTokens())) as sidecar:
        assert sidecar.feed_back(said()).status_code == 401
        assert sidecar.feed_back(said(), authorization="acme").status_code == 202
        assert [one["tenant"] for one in sidecar.feedback()] == ["acme"]


class Blacken(NoTreatment):
    """Takes out what people wrote."""

    def feedback(self, feedback: Feedback) -> Feedback:
        return replace(feedback, comment="__REDACTED__")


def test_feedback_is_treated_before_it_is_written(tmp_path: Path) -> None:
    with closing(LocalSidecar(tmp_path, now=lambda: NOW, treatment=lambda _: Blacken())) as sidecar:
        sidecar.feed_back(said(comment="My number is 4711."))
        assert [one["comment"] for one in sidecar.feedback()] == ["__REDACTED__"]
        assert b"4711" not in b"".join(path.read_bytes() for path in tmp_path.rglob("spool.sqlite3*"))


def test_feedback_goes_to_a_topic_of_its_own_and_is_counted_apart(sidecar: LocalSidecar) -> None:
    sidecar.feed_back([said(feedback_id="f-1"), said(feedback_id="f-2"), said(thumb="sideways")])
    sidecar.feedback_forwarder.start()
    assert sidecar.feedback_forwarder.stop(drain_seconds=20)

    assert [(topic, key) for topic, key, _ in sidecar.kafka.records] == [("f", b"default|t-1")] * 2
    status = sidecar.client.get("/v1/status").json()
    assert (status["accepted"], status["forwarded"], status["refused"]) == (0, 0, {})
    told = status["feedback"]
    assert (told["accepted"], told["forwarded"], told["refused"]) == (2, 2, {"invalid:thumb": 1})
    assert told["spool"]["records"] == 0
