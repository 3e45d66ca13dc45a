"""Folders of declarations: what ships is whole, and no file can do harm by being read."""

import random
from pathlib import Path

import pytest

from monitor.domain.errors import InvalidSettings
from monitor.evaluator_files import MAX_FILE_BYTES, MAX_LEVELS, load_evaluators, read_declaration
from monitor.judging.evaluator_content import evaluator_of
from monitor.judging.evaluators import Kind
from monitor.resources import resource

SHIPPED = resource("schemas") / "evaluators"
GOOD = """\
schema: evaluator.v1
name: brief
kind: predicate
description: Whether it is brief.
intent: To find long answers.
predicate: "It is brief: {answer}"
"""


def refusal(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(InvalidSettings) as caught:
        evaluator_of(read_declaration(raw, source="x.yaml"), source="x.yaml")
    return str(caught.value)


def test_the_shipped_ones_are_of_every_kind() -> None:
    found = load_evaluators(SHIPPED)
    assert {"answer_relevance", "completeness", "conciseness", "harmlessness", "politeness"} <= set(found)
    assert {evaluator.kind for evaluator in found.values()} == set(Kind)
    assert len({evaluator.version for evaluator in found.values()}) == len(found)
    assert all((SHIPPED / f"{name}.yaml").is_file() for name in found)


def test_comments_and_order_do_not_change_the_version(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    first = load_evaluators(tmp_path)["brief"].version
    (tmp_path / "a.yaml").write_text("# why\n" + "\n".join(reversed(GOOD.splitlines())) + "  # so\n")
    assert load_evaluators(tmp_path)["brief"].version == first


def test_a_folder_tells_every_mistake_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD)
    (tmp_path / "c.yaml").write_text("kind: rubric")
    (tmp_path / "notes.txt").write_text("not read")
    with pytest.raises(InvalidSettings) as caught:
        load_evaluators(tmp_path)
    assert "b.yml: name: 'brief' is declared in a.yaml too" in str(caught.value)
    assert "c.yaml: schema: is missing" in str(caught.value)
    assert "notes.txt" not in str(caught.value)


def test_no_folder_is_told_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"evaluators\.directory: .*nowhere: No such file"):
        load_evaluators(tmp_path / "nowhere")


BILLION_LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BILLION_LAUGHS, "x.yaml: line 1: anchors and aliases are not allowed"),
        ("a: &a\n  b: *a\n", "anchors and aliases"),
        ("<<: *x\n", "anchors and aliases"),
        ("[" * 60_000, f"line 1: is nested deeper than {MAX_LEVELS} levels"),
        ("{a: " * 15_000, "is nested deeper than"),
        ("- " * 30_000, "is nested deeper than"),
        ("? " * 30_000, "is nested deeper than"),
        ("".join(f"k{n}: v\n" for n in range(5000)), "has more than 200 keys and values"),
        ("x" * (MAX_FILE_BYTES + 1), f"has {MAX_FILE_BYTES + 1} bytes; {MAX_FILE_BYTES} at most"),
        (GOOD + "name: other\n", "line 7: `name` stands twice"),
        (f"{GOOD}---\n{GOOD}", "line 7: "),
        ("!!python/object/apply:os.system ['true']", "the tag tag:yaml.org,2002:python/object/apply:os.system is not"),
        ('x: !!int ""', "the tag tag:yaml.org,2002:int is not allowed"),
        ("a: [1, 2", "line 1: "),
        ("a: 'x", "line 1: "),
        ("\tx: 1", "line 1: "),
        (b"\xff\xfe\x00", "x.yaml: "),
        (b"name: \xff", "cannot be read: 'utf-8'"),
        ("name: \x00", "x.yaml: is no YAML"),
        ("d: 2026-13-45", "cannot be read: month must be"),
        ("d: " + "9" * 5000, "cannot be read: "),
        ("{[a]: b}: c", "x.yaml: "),
        ("", "x.yaml: is not a mapping of fields"),
    ],
)
def test_no_file_does_harm(text: str | bytes, said: str) -> None:
    assert said in refusal(text)


def test_what_yaml_takes_for_something_else_is_told_as_such() -> None:
    assert "name: False is no text; put it in quotation marks" in refusal(GOOD.replace("name: brief", "name: no"))
    assert "description: datetime.date" in refusal(GOOD.replace("Whether it is brief.", "2026-01-01"))


@pytest.mark.timeout(120)
def test_mutated_files_are_read_or_refused_and_nothing_else() -> None:
    chance = random.Random(7)
    originals = [path.read_bytes() for path in sorted(SHIPPED.glob("*.yaml"))]
    pieces = (
        b"&a ",
        b"*a",
        b"!!set ",
        b"? ",
        b"- ",
        b"{",
        b"}",
        b"[",
        b": ",
        b"|\n",
        b"<<: ",
        b"\x00",
        b"\xff",
        b"\n",
        b"'",
    )
    read = 0
    refused = []
    for _ in range(600):
        raw = bytearray(chance.choice(originals))
        for _ in range(chance.randint(1, 4)):
            start = chance.randrange(len(raw))
            end = min(len(raw), start + chance.choice((0, 0, 1, 7, 200)))
            raw[start:end] = chance.choice((*pieces, chance.randbytes(2), b""))
        try:
            evaluator_of(read_declaration(bytes(raw), source="x"), source="x")
            read += 1
        except InvalidSettings as error:
            refused.append(str(error))
    assert read > 20
    assert len(refused) > 200
    assert all(message.startswith("x: ") for message in refused)
