"""Feedback as it travels: what it says survives the way, and what it may not say is refused by name."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.errors import InvalidFeedback
from monitor.domain.feedback import Feedback, FeedbackSource, Thumb
from monitor.wire import MAX_FEEDBACK_BYTES, decode_feedback, encode_feedback

NOW = datetime(2026, 4, 1, tzinfo=UTC)
SAID = Feedback(
    feedback_id="f-1",
    tenant="city",
    time=NOW,
    source=FeedbackSource.AGENT,
    trace_id="t-1",
    otel_trace_id="0af7651916cd43dd8448eb211c80319c",
    thumb=Thumb.DOWN,
    outcome="escalated_to_human",
    corrected_answer="At nine.",
    comment="It said ten. 🎉",
)


def raw(**changes: Any) -> bytes:
    return json.dumps({"feedback_id": "f", "time": NOW.isoformat(), "trace_id": "t", "thumb": "up", **changes}).encode()


def problem_of(message: bytes) -> InvalidFeedback:
    with pytest.raises(InvalidFeedback) as caught:
        decode_feedback(message, now=NOW)
    return caught.value


def test_what_is_written_is_read_back() -> None:
    assert decode_feedback(encode_feedback(SAID), now=NOW) == SAID


def test_the_defaults_are_an_end_user_of_the_default_tenant() -> None:
    found = decode_feedback(raw(), now=NOW)
    assert (found.tenant, found.source, found.thumb) == ("default", FeedbackSource.END_USER, Thumb.UP)


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"trace_id": None}, "$", "trace_id or otel_trace_id"),
        ({"thumb": None, "comment": ""}, "$", "at least one of thumb, outcome, corrected_answer, comment"),
        ({"thumb": "meh"}, "thumb", "'up' or 'down'"),
        ({"source": "robot"}, "source", "'end_user'"),
        ({"time": "2026-04-01T01:00:01Z"}, "time", "in the future"),
        ({"time": "1970-01-01T00:00:00Z"}, "time", "check the clock"),
    ],
)
def test_a_refusal_names_the_field_and_what_is_allowed(changes: dict[str, Any], field: str, said: str) -> None:
    error = problem_of(raw(**changes))
    assert error.field == field
    assert said in error.problem
    assert error.reason is DeadLetterReason.INVALID


def test_what_is_too_large_or_no_json_is_said_to_be() -> None:
    assert problem_of(raw(filler="x" * MAX_FEEDBACK_BYTES)).reason is DeadLetterReason.TOO_LARGE
    assert problem_of(b"{").reason is DeadLetterReason.NOT_JSON


def test_a_nul_becomes_a_character_that_postgres_stores() -> None:
    assert decode_feedback(raw(comment="a\x00b"), now=NOW).comment == "a\N{REPLACEMENT CHARACTER}b"
