"""What every domain object promises: frozen, keyword-only, times in UTC, versions that are stable."""

import dataclasses
import inspect
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from monitor.domain import alert, dead_letter, errors, judgement, trace, verdict
from monitor.domain.alert import Alarm, Alert, AlertState, Direction
from monitor.domain.dead_letter import DeadLetter, DeadLetterReason
from monitor.domain.errors import GroundwatchError, InvalidTrace
from monitor.domain.judgement import JudgeIdentity, Tier
from monitor.domain.trace import Document, Origin, Segment, Trace
from monitor.domain.verdict import Action, Assessment, Decision, Label, Verdict

NAIVE = datetime(2026, 3, 1, 9, 30)  # noqa: DTZ001 - what must be refused
AWARE = NAIVE.replace(tzinfo=timezone(timedelta(hours=2)))

TRACE: dict[str, Any] = {
    "trace_id": "t",
    "event_time": AWARE,
    "tenant": "city",
    "service": "help-desk",
    "environment": "production",
    "question": "q",
    "documents": (Document(id="a", text="b"),),
    "answer": "a",
}
ORIGIN = Origin(topic="rag.traces.v1", partition=0, offset=1)
DEAD: dict[str, Any] = {
    "origin": ORIGIN,
    "reason": DeadLetterReason.NOT_JSON,
    "detail": "",
    "field": None,
    "raw": b"",
    "raw_bytes": 0,
    "dead_at": AWARE,
}
ALARM: dict[str, Any] = {
    "event_time": AWARE,
    "change_at": AWARE,
    "change_earliest": AWARE,
    "change_latest": AWARE,
    "direction": Direction.RISE,
    "evidence": 10.0,
    "rate_before": 0.1,
    "rate_after": 0.3,
    "verdicts_seen": 1,
    "delay_verdicts": 1,
}
ALERT: dict[str, Any] = {
    "alert_id": "a",
    "segment": Segment(tenant="city", service="help-desk", environment="production"),
    "evaluator": "faithfulness",
    "judge_version": "v",
    "alarm": Alarm(**ALARM),
    "state": AlertState.FIRING,
    "raised_at": AWARE,
    "average_run_length": 1000.0,
}
ASSESSMENT: dict[str, Any] = {
    "trace": Trace(**TRACE),
    "origin": ORIGIN,
    "evaluator": "faithfulness",
    "judge_version": "v",
    "judgements": (),
    "outcome": Verdict(label=Label.FAITHFUL, probability=0.1),
    "decision": Decision(action=Action.ACCEPT, reason="sure", inclusion_probability=0.0),
    "judged_at": AWARE,
}
TIMES = [
    (Trace, TRACE, "event_time"),
    (DeadLetter, DEAD, "dead_at"),
    (Alarm, ALARM, "event_time"),
    (Alarm, ALARM, "change_at"),
    (Alert, ALERT, "raised_at"),
    (Assessment, ASSESSMENT, "judged_at"),
]


def domain_classes() -> list[type]:
    return [
        found
        for module in (trace, judgement, verdict, alert, dead_letter)
        for _, found in inspect.getmembers(module, dataclasses.is_dataclass)
        if found.__module__ == module.__name__
    ]


def test_every_time_of_every_domain_object_is_tried_here() -> None:
    declared = {
        (found, field.name)
        for found in domain_classes()
        for field in dataclasses.fields(found)
        if field.type is datetime
    }
    assert declared == {(found, name) for found, _, name in TIMES}


@pytest.mark.parametrize(("kind", "fields", "name"), TIMES)
def test_a_naive_time_is_refused(kind: type, fields: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must carry a time zone"):
        kind(**fields | {name: NAIVE})


@pytest.mark.parametrize(("kind", "fields", "name"), TIMES)
def test_every_time_is_held_in_utc(kind: type, fields: dict[str, Any], name: str) -> None:
    held = getattr(kind(**fields), name)
    assert held == AWARE
    assert held.tzinfo is UTC


@pytest.mark.parametrize("kind", domain_classes(), ids=lambda kind: kind.__name__)
def test_domain_objects_are_frozen_keyword_only_and_slotted(kind: type) -> None:
    parameters = kind.__dataclass_params__  # type: ignore[attr-defined] # dataclass machinery, absent from `type`
    assert parameters.frozen
    assert "__slots__" in vars(kind)
    assert all(field.kw_only for field in dataclasses.fields(kind))


IDENTITY: dict[str, Any] = {
    "name": "gguf",
    "tier": Tier.EDGE,
    "model": "m.gguf",
    "model_digest": "ab" * 32,
    "quantisation": "Q4_K_M",
    "prompt_digest": "cd" * 32,
}


def test_a_judges_version_never_changes_by_itself() -> None:
    # Written down: calibrations and stored verdicts refer to judges by it.
    assert JudgeIdentity(**IDENTITY).version == "gguf@8d1aaa66b00b"


@pytest.mark.parametrize("name", IDENTITY)
def test_a_change_of_any_part_is_another_version(name: str) -> None:
    other = {"tier": Tier.POOL}.get(name, f"{IDENTITY[name]}-2")
    assert JudgeIdentity(**IDENTITY | {name: other}).version != JudgeIdentity(**IDENTITY).version


def test_parts_do_not_run_into_one_another() -> None:
    one = JudgeIdentity(**IDENTITY | {"model": "ab", "model_digest": "c"})
    two = JudgeIdentity(**IDENTITY | {"model": "a", "model_digest": "bc"})
    assert one.version != two.version


def test_the_error_tree_in_the_docstring_is_the_tree() -> None:
    drawn, above = [], ["GroundwatchError"]
    for indent, name in re.findall(r"^((?:│   |    )*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE):
        above[len(indent) // 4 + 1 :] = [name]
        drawn.append((name, above[-2]))
    assert drawn == [
        (name, found.__base__.__name__)
        for name, found in vars(errors).items()
        if isinstance(found, type) and issubclass(found, GroundwatchError) and found is not GroundwatchError
    ]
    assert all(getattr(errors, name).__doc__ for name, _ in drawn)


def test_an_invalid_trace_names_its_field() -> None:
    error = InvalidTrace("documents[0].text", "Field required")
    assert str(error) == "documents[0].text: Field required"
    assert error.reason is DeadLetterReason.INVALID


def test_a_trace_counts_in_its_segment() -> None:
    assert str(Trace(**TRACE).segment) == "city/help-desk/production"
