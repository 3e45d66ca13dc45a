"""What we write, we can read, and others can check."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from monitor import wire
from monitor.domain.alert import Alarm, Alert, AlertState, Direction
from monitor.domain.dead_letter import DeadLetter, DeadLetterReason
from monitor.domain.errors import InvalidMessage, InvalidTrace
from monitor.domain.judgement import (
    CouldNotJudge,
    JudgeIdentity,
    Judgement,
    Opinion,
    Tier,
    Unjudgeable,
    UnsupportedSpan,
    Usage,
)
from monitor.domain.trace import Document, Origin, Segment, Trace
from monitor.domain.verdict import FAITHFULNESS, Action, Assessment, Decision, Label, Verdict

SCHEMAS = Path(__file__).parents[3] / "schemas"
NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(seconds=3, microseconds=5)
CONTRACTS = {path.stem: json.loads(path.read_text("utf-8")) for path in SCHEMAS.glob("*.json")}
REGISTRY = Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in CONTRACTS.values())


def check(contract: str, message: Any) -> None:
    Draft202012Validator(CONTRACTS[contract], registry=REGISTRY).validate(message)


BARE_TRACE = Trace(
    trace_id="t-1",
    event_time=NOW,
    tenant="city",
    service="help-desk",
    environment="production",
    question="",
    documents=(),
    answer="",
)
FULL_TRACE = Trace(
    trace_id="t-2",
    event_time=NOW.astimezone(timezone(timedelta(hours=5, minutes=45))),
    tenant="city",
    service="help-desk",
    environment="staging",
    question="When? 😀",
    documents=(Document(id="a", text="On Sundays.", score=0.5, metadata={"k": [1, None, {"n": 2.5}]}),),
    answer="On Mondays.",
    generator_model="m",
    prompt_version="v1",
    tags={"a": "b"},
    otel_trace_id="a" * 32,
    otel_span_id="b" * 16,
)
SPAN = UnsupportedSpan(start=3, end=10, score=0.9, document_id="a", document_start=0, document_end=11)
SCREEN = JudgeIdentity(name="screen", tier=Tier.SCREEN, model="screen.onnx", model_digest="00" * 32)
EDGE = JudgeIdentity(
    name="gguf", tier=Tier.EDGE, model="m.gguf", model_digest="11" * 32, quantisation="Q4_K_M", prompt_digest="22" * 32
)
USAGE = Usage(prompt_tokens=10, completion_tokens=2, cost_usd=0.001)
ORIGIN = Origin(topic="rag.traces.v1", partition=0, offset=7, high_watermark=9)
DECISION = Decision(action=Action.ESCALATE, reason="audit", inclusion_probability=0.02, priority=5)
OPINION = Opinion(raw_score=-1.5, unsupported=(SPAN,), reasoning="because", usage=USAGE)
JUDGEMENTS = (
    Judgement(
        judge=SCREEN,
        result=OPINION,
        probability=0.2,
        latency_seconds=0.001,
        inclusion_probability=1.0,
        chosen_because="all",
    ),
    Judgement(
        judge=EDGE,
        result=CouldNotJudge(reason=Unjudgeable.DEADLINE, detail="20 s"),
        probability=None,
        latency_seconds=20.0,
        inclusion_probability=0.5,
        chosen_because="unsure",
    ),
)
VERDICT = Verdict(
    label=Label.FAITHFUL, probability=0.2, reasoning="because", unsupported=(SPAN,), decided_by=(SCREEN.version,)
)


def assessment(**changes: Any) -> Assessment:
    fields: dict[str, Any] = {
        "trace": FULL_TRACE,
        "origin": ORIGIN,
        "evaluator": FAITHFULNESS,
        "judge_version": "cascade@1",
        "judgements": JUDGEMENTS,
        "outcome": VERDICT,
        "decision": DECISION,
        "judged_at": LATER,
    }
    return Assessment(**fields | changes)


ASSESSMENTS = {
    "every field": assessment(),
    "no optional field": assessment(
        trace=BARE_TRACE,
        origin=Origin(topic="t", partition=0, offset=0),
        judgements=(),
        outcome=Verdict(label=Label.HALLUCINATED, probability=1.0),
        decision=Decision(action=Action.ACCEPT, reason="sure", inclusion_probability=0.0),
    ),
    "could not judge": assessment(outcome=CouldNotJudge(reason=Unjudgeable.EMPTY_ANSWER)),
}


@pytest.mark.parametrize("trace", [BARE_TRACE, FULL_TRACE], ids=["bare", "full"])
def test_a_trace_survives_the_journey(trace: Trace) -> None:
    raw = wire.encode_trace(trace)
    check("rag_trace.v1", json.loads(raw))
    assert wire.decode_trace(raw, now=NOW) == trace


@pytest.mark.parametrize("said", ASSESSMENTS.values(), ids=ASSESSMENTS)
def test_an_assessment_survives_the_journey(said: Assessment) -> None:
    raw = wire.encode_assessment(said)
    message = json.loads(raw)
    check("judgement.v1", message)
    assert wire.decode_assessment(raw) == said
    assert [one["judge"]["version"] for one in message["judgements"]] == [one.judge.version for one in said.judgements]


@pytest.mark.parametrize("reason", Unjudgeable)
def test_could_not_judge_never_comes_back_as_a_verdict(reason: Unjudgeable) -> None:
    back = wire.decode_assessment(wire.encode_assessment(assessment(outcome=CouldNotJudge(reason=reason))))
    assert back.outcome == CouldNotJudge(reason=reason)


@pytest.mark.parametrize("verdict", [VERDICT, Verdict(label=Label.HALLUCINATED, probability=0.0)])
def test_a_verdict_is_what_the_schema_says(verdict: Verdict) -> None:
    check(
        "verdict.v1",
        wire.verdict_to_json(
            verdict, trace=FULL_TRACE, evaluator=FAITHFULNESS, judge_version="cascade@1", judged_at=LATER
        ),
    )


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("state", AlertState)
def test_an_alert_is_what_the_schema_says(direction: Direction, state: AlertState) -> None:
    alarm = Alarm(
        event_time=LATER,
        change_at=NOW,
        change_earliest=NOW,
        change_latest=NOW,
        direction=direction,
        evidence=10.0,
        rate_before=0.1,
        rate_after=0.3,
        verdicts_seen=2000,
        delay_verdicts=40,
    )
    alert = Alert(
        alert_id="a-1",
        segment=Segment(tenant="city", service="help-desk", environment="staging"),
        evaluator=FAITHFULNESS,
        judge_version="cascade@1",
        alarm=alarm,
        state=state,
        raised_at=LATER,
        average_run_length=20_000.0,
    )
    check("alert.v1", wire.alert_to_json(alert))


def dead_letter(raw: bytes, **changes: Any) -> DeadLetter:
    fields: dict[str, Any] = {
        "origin": ORIGIN,
        "reason": DeadLetterReason.INVALID,
        "detail": "answer: Field required",
        "field": "answer",
        "raw": raw,
        "raw_bytes": len(raw),
        "dead_at": LATER,
    }
    return DeadLetter(**fields | changes)


@pytest.mark.parametrize("raw", [b"", b"\x00\xff\xfe{", bytes(range(256)), "{'ü': 1}".encode()])
def test_a_dead_letter_keeps_its_bytes(raw: bytes) -> None:
    letter = dead_letter(raw, field=None)
    encoded = wire.encode_dead_letter(letter)
    check("dead_letter.v1", json.loads(encoded))
    assert wire.decode_dead_letter(encoded) == letter


def test_a_ten_megabyte_dead_letter_is_cut_and_says_how_long_it_was() -> None:
    encoded = wire.encode_dead_letter(dead_letter(b"\xff" * 10_485_760))
    check("dead_letter.v1", json.loads(encoded))
    back = wire.decode_dead_letter(encoded)
    assert len(back.raw) == wire.MAX_DEAD_LETTER_BYTES
    assert back.raw_bytes == 10_485_760
    assert len(encoded) < wire.MAX_MESSAGE_BYTES


def objects_in(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from objects_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects_in(value)


def test_readers_ignore_a_field_added_at_any_level() -> None:
    said = assessment(trace=BARE_TRACE)  # without tags and metadata, whose keys are data, every object is ours
    message = json.loads(wire.encode_assessment(said))
    for node in list(objects_in({key: value for key, value in message.items() if key != "trace"})):
        node["added_later"] = {"by": "a newer writer"}
    message["trace"]["added_later"] = message["added_later"] = 1
    check("judgement.v1", message)
    assert wire.decode_assessment(json.dumps(message).encode()) == said

    letter = json.loads(wire.encode_dead_letter(dead_letter(b"x")))
    for node in list(objects_in(letter)):
        node["added_later"] = None
    check("dead_letter.v1", letter)
    assert wire.decode_dead_letter(json.dumps(letter).encode()) == dead_letter(b"x")

    trace = json.loads(wire.encode_trace(FULL_TRACE))
    trace["added_later"] = trace["documents"][0]["added_later"] = [1]
    check("rag_trace.v1", trace)
    assert wire.decode_trace(json.dumps(trace).encode(), now=NOW) == FULL_TRACE


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b'{"schema": "judgement.v2"}',
        b"{" * 100_000,
        wire.encode_trace(FULL_TRACE),
        wire.encode_dead_letter(dead_letter(b"x")),
    ],
)
def test_a_record_that_is_no_judgement_is_named_as_such(raw: bytes) -> None:
    with pytest.raises(InvalidMessage, match=r"judgement\.v1"):
        wire.decode_assessment(raw)


def test_a_record_that_is_no_dead_letter_is_named_as_such() -> None:
    for raw in (b"", b"[]", b"\xff", wire.encode_trace(FULL_TRACE), wire.encode_assessment(assessment())):
        with pytest.raises(InvalidMessage, match=r"dead_letter\.v1"):
            wire.decode_dead_letter(raw)


def test_a_judges_own_words_are_made_storable() -> None:
    said = assessment(outcome=Verdict(label=Label.FAITHFUL, probability=0.1, reasoning="cut \ud83d off\x00 \\u0000"))
    outcome = wire.decode_assessment(wire.encode_assessment(said)).outcome
    assert isinstance(outcome, Verdict)
    assert outcome.reasoning == "cut ? off\N{REPLACEMENT CHARACTER} \\u0000"


def test_an_assessment_larger_than_the_topic_takes_is_refused_by_name() -> None:
    spans = tuple(UnsupportedSpan(start=i, end=i + 1, score=1.0, document_id="d" * 512) for i in range(10_000))
    with pytest.raises(InvalidTrace) as caught:
        wire.encode_assessment(assessment(outcome=Verdict(label=Label.FAITHFUL, probability=0.1, unsupported=spans)))
    assert caught.value.reason is DeadLetterReason.TOO_LARGE
