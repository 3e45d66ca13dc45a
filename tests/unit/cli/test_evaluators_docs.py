"""docs/evaluators.md, executed: its declarations load, its settings choose, its commands answer as the page says."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from monitor.cli import evaluate
from monitor.config import load_settings
from monitor.evaluator_files import load_evaluators
from monitor.judging.evaluator_content import FIELDS
from monitor.resources import resource
from monitor.services.evaluating import declared_evaluators
from tests.support.unruly_server import UnrulyServer, completion

PAGE = (Path(__file__).parents[3] / "docs" / "evaluators.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the page's declarations in `my-evaluators`, and its settings."""
    folder = tmp_path / "my-evaluators"
    folder.mkdir()
    for block in blocks("yaml"):
        (folder / f"{yaml.safe_load(block)['name']}.yaml").write_text(block)
    (settings,) = blocks("toml")
    (tmp_path / "groundwatch.toml").write_text(settings)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def server() -> Iterator[UnrulyServer]:
    with UnrulyServer.serving() as server:
        yield server


def test_the_declarations_load_and_are_of_every_kind(folder: Path) -> None:
    found = load_evaluators(folder)
    assert [each.kind.value for each in found.values()] == ["predicate", "pairwise", "rubric"]


def test_the_settings_are_valid_and_name_what_is_declared(folder: Path) -> None:
    settings = load_settings().evaluators
    assert set(declared_evaluators(settings)) == {"cites_sources", "more_specific", "reading_ease"}
    assert [rule.share for rule in settings.rules] == [1.0, 0.1]


def test_the_table_lists_what_ships() -> None:
    shipped = load_evaluators(resource("schemas") / "evaluators").values()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", PAGE, flags=re.MULTILINE)
    assert rows == [(each.name, each.kind.value, each.description) for each in shipped]


def test_every_field_is_explained() -> None:
    names = {field for fields in FIELDS.values() for field in fields}
    assert not [name for name in names if f"{name}:" not in PAGE]


def test_the_commands_answer_as_the_page_says(
    folder: Path, server: UnrulyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = lambda body, _number: completion(
        '{"JUSTIFICATION": "It names document 1.", "SCORE": 0.9}'
        if "cites_sources" in body["messages"][0]["content"]
        else '{"JUSTIFICATION": "x", "WINNER": "TIE"}'
    )
    monkeypatch.setenv("GROUNDWATCH_POOL__URL", server.url)
    row, answer = blocks("json")
    Path("rows.jsonl").write_text(row)
    app = typer.Typer()
    evaluate.register(app)
    for block in blocks("sh"):
        words = shlex.split(block)
        done = CliRunner().invoke(app, words[words.index("evaluate") + 1 :])
        assert done.exit_code == 0, done.output
    first, second = map(json.loads, Path("scores.jsonl").read_text().splitlines())
    documented = json.loads(answer)
    # Our own wording is part of the version: the page need not follow each of its changes.
    assert documented.pop("evaluator_version").partition("@")[0] == first.pop("evaluator_version").partition("@")[0]
    assert first == documented
    assert second["score"] == "tie"
