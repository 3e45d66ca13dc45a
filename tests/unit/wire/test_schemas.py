"""The JSON Schemas in `schemas/` and the types that read those messages and files are one contract, stated twice."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError
from referencing import Registry, Resource

from monitor import wire
from monitor.domain.alert import Alert, AlertState, Direction, Notification, Severity
from monitor.domain.confirmation import ConfirmationState
from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.errors import InvalidFeedback, InvalidMessage, InvalidTrace, JudgeUnavailable
from monitor.domain.feedback import FeedbackSource, Thumb
from monitor.domain.judgement import Tier, Unjudgeable
from monitor.domain.verdict import Action, Label, Verdict
from monitor.inference.encoder_manifest import parse_manifest

SCHEMAS = Path(__file__).parents[3] / "schemas"
EXAMPLES = SCHEMAS / "examples"
NOW = datetime(2026, 4, 1, tzinfo=UTC)

# What people write in YAML: closed objects, held against their reader in tests/unit/judging/test_evaluators_schema.py.
DECLARATIONS = {"evaluator.v1"}

# Writers obey the schema; these rules a reader of our own messages does not check again.
ONLY_THE_SCHEMA_SAYS_SO = {
    "alert.v1/average_run_length_zero",
    "alert.v1/rate_over_1",
    "dead_letter.v1/raw_bytes_negative",
    "judgement.v1/outcome_probability_over_1",
    "verdict.v1/judge_version_empty",
    "verdict.v1/judged_at_without_zone",
    "verdict.v1/probability_negative",
    "verdict.v1/span_start_negative",
    "verdict.v1/tenant_with_slash",
}

# What JSON Schema cannot say of a trace, or says in ECMA-262's words, which Python's `re` reads otherwise.
ONLY_THE_READER_KNOWS = {
    "service ends in a line break": ({"service": "help-desk\n"}, "service"),
    "trace id ends in a line break": ({"trace_id": "a\n"}, "trace_id"),
    "event time of a broken clock": ({"event_time": "1970-01-01T00:00:00Z"}, "event_time"),
    "event time in the future": ({"event_time": "2026-04-01T01:00:01Z"}, "event_time"),
    "event time on no calendar": ({"event_time": "2026-02-30T00:00:00Z"}, "event_time"),
    "a number beyond double precision": ({"documents": [{"id": "a", "text": "b", "score": 10**400}]}, "documents"),
}

READERS: dict[str, Callable[[bytes], Any]] = {
    "rag_trace.v1": lambda raw: wire.decode_trace(raw, now=NOW),
    "judgement.v1": wire.decode_assessment,
    "dead_letter.v1": wire.decode_dead_letter,
    # We write these two and never read them: their shape is held against the domain types.
    "verdict.v1": TypeAdapter(Verdict).validate_json,
    "alert.v1": TypeAdapter(Alert).validate_json,
    "encoder_manifest.v1": parse_manifest,
    "feedback.v1": lambda raw: wire.decode_feedback(raw, now=NOW),
}

# Not a message between versions, but a file that people write: a field that nobody knows is a slip of the pen.
CLOSED = {"encoder_manifest.v1"}


def schema_of(contract: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"{contract}.json").read_text("utf-8"))


REGISTRY = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in map(schema_of, READERS)
)


def validator(contract: str) -> Draft202012Validator:
    return Draft202012Validator(schema_of(contract), registry=REGISTRY)


def examples(kind: str) -> list[Any]:
    return [
        pytest.param(contract, path, id=f"{contract}/{path.stem}")
        for contract in READERS
        for path in sorted((EXAMPLES / contract / kind).glob("*.json"))
    ]


def smallest_trace(**changes: Any) -> dict[str, Any]:
    return json.loads((EXAMPLES / "rag_trace.v1/valid/smallest.json").read_text("utf-8")) | changes


def test_there_is_one_schema_a_contract_and_no_other_file() -> None:
    assert {path.stem for path in SCHEMAS.glob("*.json")} == set(READERS) | DECLARATIONS
    assert {path.name for path in EXAMPLES.iterdir()} == set(READERS) | DECLARATIONS
    assert not list(SCHEMAS.rglob("*.py"))


@pytest.mark.parametrize("contract", READERS)
def test_each_schema_is_a_schema_that_names_itself(contract: str) -> None:
    schema = schema_of(contract)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:groundwatch:schema:{contract}"
    assert schema["title"]


@pytest.mark.parametrize("contract", READERS)
def test_every_property_is_described_and_every_object_open(contract: str) -> None:
    for path, node in walk(schema_of(contract)):
        if node.get("type") == "object":
            assert (node.get("additionalProperties", True) is False) is (contract in CLOSED), path
        for name, declared in node.get("properties", {}).items():
            assert "description" in declared or "$ref" in declared, f"{path}.{name}"


@pytest.mark.parametrize(("contract", "path"), examples("valid"))
def test_valid_examples_pass_both(contract: str, path: Path) -> None:
    raw = path.read_bytes()
    validator(contract).validate(json.loads(raw))
    READERS[contract](raw)


@pytest.mark.parametrize(("contract", "path"), examples("invalid"))
def test_invalid_examples_fail_both(contract: str, path: Path) -> None:
    raw = path.read_bytes()
    assert not validator(contract).is_valid(json.loads(raw))
    if f"{contract}/{path.stem}" in ONLY_THE_SCHEMA_SAYS_SO:
        READERS[contract](raw)
    else:
        with pytest.raises((InvalidTrace, InvalidFeedback, InvalidMessage, JudgeUnavailable, ValidationError)):
            READERS[contract](raw)


def test_no_exception_is_made_for_what_comes_from_outside() -> None:
    assert not [name for name in ONLY_THE_SCHEMA_SAYS_SO if name.startswith(("rag_trace", "feedback"))]


@pytest.mark.parametrize(("changes", "field"), ONLY_THE_READER_KNOWS.values(), ids=ONLY_THE_READER_KNOWS)
def test_what_only_the_reader_knows(changes: dict[str, Any], field: str) -> None:
    message = smallest_trace(**changes)
    assert validator("rag_trace.v1").is_valid(message)
    with pytest.raises(InvalidTrace) as caught:
        wire.decode_trace(json.dumps(message).encode(), now=NOW)
    assert caught.value.field.startswith(field)


def test_the_limits_of_a_trace_are_the_same_in_both() -> None:
    ours, theirs = schema_of("rag_trace.v1"), wire.TraceV1.model_json_schema()
    assert set(ours["required"]) == set(theirs["required"])
    assert limits(ours["properties"]) == limits(theirs["properties"])
    document, model = ours["$defs"]["document"], theirs["$defs"]["DocumentV1"]
    assert set(document["required"]) == set(model["required"])
    assert limits(document["properties"]) == limits(model["properties"])


def test_the_limits_of_feedback_are_the_same_in_both() -> None:
    ours, theirs = schema_of("feedback.v1"), wire.FeedbackV1.model_json_schema()
    assert set(ours["required"]) == set(theirs["required"])
    words = {name: theirs["properties"].pop(name) for name in ("thumb", "source")}
    assert limits({name: ours["properties"][name] for name in theirs["properties"]}) == limits(theirs["properties"])
    assert {*theirs["properties"], *words} == set(ours["properties"])
    assert ours["properties"]["thumb"]["enum"] == [*Thumb, None]


def test_the_limits_in_bytes_are_stated() -> None:
    assert str(wire.MAX_FEEDBACK_BYTES) in schema_of("feedback.v1")["description"]
    assert str(wire.MAX_TRACE_BYTES) in schema_of("rag_trace.v1")["description"]
    assert str(wire.MAX_MESSAGE_BYTES) in schema_of("judgement.v1")["description"]
    dead = schema_of("dead_letter.v1")["properties"]
    assert str(wire.MAX_DEAD_LETTER_BYTES) in dead["raw"]["description"]
    assert dead["raw"]["maxLength"] == -(-wire.MAX_DEAD_LETTER_BYTES // 3) * 4
    assert dead["field"]["maxLength"] == wire.MAX_FIELD_NAME


def test_times_are_written_alike_everywhere() -> None:
    patterns = {
        node["pattern"]
        for contract in READERS
        for _, node in walk(schema_of(contract))
        if "date-time" in str(node.get("format"))
    }
    assert patterns == {wire.TIME_PATTERN}


@pytest.mark.parametrize(
    ("contract", "path", "words"),
    [
        ("verdict.v1", "$defs.evidence.properties.label", Label),
        ("verdict.v1", "$defs.could_not_judge.properties.reason", Unjudgeable),
        ("judgement.v1", "$defs.identity.properties.tier", Tier),
        ("judgement.v1", "$defs.decision.properties.action", Action),
        ("dead_letter.v1", "properties.reason", DeadLetterReason),
        ("feedback.v1", "properties.source", FeedbackSource),
        ("alert.v1", "properties.state", AlertState),
        ("alert.v1", "properties.severity", Severity),
        ("alert.v1", "properties.notification", Notification),
        ("alert.v1", "$defs.alarm.properties.direction", Direction),
        ("alert.v1", "$defs.confirmation.properties.state", ConfirmationState),
    ],
)
def test_every_word_of_an_enumeration_is_in_the_schema(contract: str, path: str, words: Any) -> None:
    node = schema_of(contract)
    for part in path.split("."):
        node = node[part]
    assert node["enum"] == [str(word) for word in words]


def walk(node: Any, path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from walk(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from walk(value, f"{path}[{index}]")


def limits(properties: dict[str, Any]) -> dict[str, Any]:
    """What a property allows, without its prose; `T | null` in pydantic's form and in ours come out alike."""
    return {name: _limits_of(declared) for name, declared in properties.items()}


def _limits_of(declared: dict[str, Any]) -> dict[str, Any]:
    prose = {"title", "description", "items", "default"}
    if "anyOf" in declared:
        one, null = declared["anyOf"]
        assert null == {"type": "null"}
        declared = {**declared, **one, "type": [one["type"], "null"]}
        del declared["anyOf"]
    found = {key: value for key, value in declared.items() if key not in prose}
    if "const" in found:
        found.pop("type", None)
    if found.get("format") == "date-time":
        found.pop("pattern", None)  # held by test_times_are_written_alike_everywhere
    found["default"] = declared.get("default") or None  # {} and absent are one: the empty mapping
    return found
