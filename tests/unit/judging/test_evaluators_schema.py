"""`schemas/evaluator.v1.json` and the reader of declarations are one contract, stated twice."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from monitor.domain.errors import InvalidSettings
from monitor.evaluator_files import MAX_FILE_BYTES, read_declaration
from monitor.judging import evaluator_content
from monitor.judging.evaluator_content import FIELDS, evaluator_of
from monitor.judging.evaluators import Kind, ReferenceUse

SCHEMAS = Path(__file__).parents[3] / "schemas"
SCHEMA = json.loads((SCHEMAS / "evaluator.v1.json").read_text("utf-8"))
EXAMPLES = SCHEMAS / "examples" / "evaluator.v1"
VALIDATOR = Draft202012Validator(SCHEMA)

# A format string is no regular language.
ONLY_THE_READER_KNOWS = {"slot_unknown", "slot_twice", "slot_with_an_attribute", "brace_unpaired"}


def files(kind: str) -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in sorted((EXAMPLES / kind).glob("*.yaml"))]


def as_json(path: Path) -> Any:
    """A YAML file as editors see it: JSON, where every key is a text."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text("utf-8"))))


def read(path: Path) -> Any:
    return evaluator_of(read_declaration(path.read_bytes(), source=path.name), source=path.name)


def test_it_is_a_schema_that_names_itself() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == f"urn:groundwatch:schema:{evaluator_content.CONTRACT}"


@pytest.mark.parametrize(
    "path", [*files("valid"), *(pytest.param(p, id=p.stem) for p in sorted((SCHEMAS / "evaluators").glob("*.yaml")))]
)
def test_valid_files_pass_both(path: Path) -> None:
    VALIDATOR.validate(as_json(path))
    assert read(path).name == as_json(path)["name"]


@pytest.mark.parametrize("path", files("invalid"))
def test_invalid_files_fail_both(path: Path) -> None:
    assert VALIDATOR.is_valid(as_json(path)) is (path.stem in ONLY_THE_READER_KNOWS)
    with pytest.raises(InvalidSettings, match=rf"^{path.name}: "):
        read(path)


@pytest.mark.parametrize("kind", Kind)
def test_both_know_the_same_fields_and_limits(kind: Kind) -> None:
    declared = SCHEMA["$defs"][kind]
    properties = declared["properties"]
    assert set(properties) == set(FIELDS[kind])
    assert declared["additionalProperties"] is False
    assert all("description" in each for each in properties.values())
    tokens = properties["max_tokens"]
    limits = (tokens["minimum"], tokens["maximum"], tokens["default"])
    assert limits == (evaluator_content.LEAST_TOKENS, evaluator_content.MOST_TOKENS, evaluator_content.DEFAULT_TOKENS)
    most = {
        "description": evaluator_content.LONGEST_LINE,
        "predicate": evaluator_content.LONGEST_PREDICATE,
        "intent": evaluator_content.LONGEST_TEXT,
        "criterion": evaluator_content.LONGEST_TEXT,
    }
    assert {name: each["maxLength"] for name, each in properties.items() if "maxLength" in each} == {
        name: limit for name, limit in most.items() if name in properties
    }
    if kind is Kind.RUBRIC:
        assert properties["reference"]["enum"] == [str(word) for word in ReferenceUse]


def test_the_size_limit_is_stated() -> None:
    assert str(MAX_FILE_BYTES) in SCHEMA["description"]
