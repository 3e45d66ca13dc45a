"""`groundwatch evaluate`: a line out for each row and evaluator, whatever the row and whatever the server says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from monitor.cli import evaluate
from monitor.evaluator_files import load_evaluators
from monitor.resources import resource
from tests.support.unruly_server import UnrulyServer, completion, status

ROW = {"id": "r1", "question": "Who?", "context": ["Ada wrote it."], "answer": "Ada."}
TRACE = {
    "schema": "rag_trace.v1",
    "trace_id": "t1",
    "event_time": "2026-01-01T00:00:00Z",
    "tenant": "acme",
    "service": "help",
    "question": "Who?",
    "documents": [],
    "answer": "Ada.",
}
SHIPPED = load_evaluators(resource("schemas") / "evaluators")


@pytest.fixture
def server() -> Iterator[UnrulyServer]:
    with UnrulyServer.serving() as server:
        server.script = lambda _body, _number: completion('{"JUSTIFICATION": "So.", "SCORE": 0.5}')
        yield server


@pytest.fixture
def app(server: UnrulyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> typer.Typer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GROUNDWATCH_POOL__URL", server.url)
    monkeypatch.setenv("GROUNDWATCH_POOL__MAX_ATTEMPTS", "1")
    app = typer.Typer()
    evaluate.register(app)
    return app


def invoke(app: typer.Typer, rows: list[Any], *extra: str) -> Result:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    Path("in.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return CliRunner().invoke(app, ["--input", "in.jsonl", "--output", "out.jsonl", *extra])


def run(app: typer.Typer, rows: list[Any], *extra: str) -> tuple[Result, list[dict[str, Any]]]:
    done = invoke(app, rows, *extra)
    assert done.exit_code == 0, done.output
    return done, [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]


def test_a_score_with_all_that_it_rests_on(app: typer.Typer) -> None:
    done, (result,) = run(app, [ROW], "-e", "conciseness")
    assert result == {
        "id": "r1",
        "evaluator": "conciseness",
        "evaluator_version": SHIPPED["conciseness"].version,
        "model": "lynx-70b@unpinned",
        "inclusion_probability": 1.0,
        "outcome": "scored",
        "score": 0.5,
        "normalised": 0.5,
        "justification": "So.",
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "cost_usd": 0.0,
    }
    assert "1 scored, 0 not judged, 0 dead letters" in done.stderr
    assert "conciseness: mean 0.50 of 1" in done.stderr


def test_rows_stay_in_order_and_every_line_is_accounted_for(app: typer.Typer, server: UnrulyServer) -> None:
    # By its text, not by its number: rows are asked about side by side.
    server.script = lambda body, _number: status(500) if "Nobody." in str(body) else completion('{"SCORE": 1}')
    fifth = {**ROW, "id": 5, "answer": "Nobody."}
    rows = [ROW, b"no json", {**ROW, "id": "r3", "answer": " "}, {**ROW, "id": "r4", "answer": 7}, fifth]
    done, results = run(app, rows, "-e", "politeness", "--json")
    assert [(one["id"], one["outcome"]) for one in results if one["outcome"] != "dead_letter"] == [
        ("r1", "scored"),
        ("r3", "could_not_judge"),
        ("5", "could_not_judge"),
    ]
    assert {(one["id"], one["reason"]) for one in results if one["outcome"] == "dead_letter"} == {
        (None, "not_json"),
        ("r4", "invalid"),
    }
    summary = json.loads(done.stdout)
    assert (summary["scored"], summary["could_not_judge"], summary["dead_letters"]) == (1, 2, 2)
    assert summary["evaluators"]["politeness"]["reasons"] == {"empty_answer": 1, "judge_unavailable": 1}


@pytest.mark.parametrize(
    ("evaluator", "row", "detail"),
    [
        ("correctness", ROW, "reference: is missing; correctness needs it"),
        ("correctness", {**ROW, "reference": " "}, "reference: is missing; correctness needs it"),
        ("correctness", {**ROW, "reference": 3}, "reference: is no text"),
        ("helpfulness_preference", ROW, "answer_b: is missing; helpfulness_preference needs it"),
        ("helpfulness_preference", {**ROW, "answer_b": ["x"]}, "answer_b: is no text"),
    ],
)
def test_a_row_that_lacks_something_says_what(
    app: typer.Typer, server: UnrulyServer, evaluator: str, row: dict[str, Any], detail: str
) -> None:
    _, (result,) = run(app, [row], "-e", evaluator)
    assert (result["outcome"], result["reason"], result["detail"]) == ("dead_letter", "invalid", detail)
    assert result["evaluator"] == evaluator
    assert server.bodies == []


def test_a_pair_tells_which_position_was_favoured(app: typer.Typer, server: UnrulyServer) -> None:
    server.script = lambda _body, _number: completion('{"JUSTIFICATION": "It comes first.", "WINNER": "A"}')
    done, (result,) = run(app, [{**ROW, "answer_b": "Bob."}], "-e", "helpfulness_preference")
    assert (result["score"], result["normalised"], result["favoured"]) == ("tie", 0.5, "first")
    assert len(server.bodies) == 2
    assert "favours the first 1" in done.stderr


def test_without_names_the_rules_choose(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [
        {"services": "acme/*", "evaluators": ["politeness", "conciseness"]},
        {"services": "default/offline", "evaluators": ["harmlessness"], "share": 0.0},
    ]
    monkeypatch.setenv("GROUNDWATCH_EVALUATORS__RULES", json.dumps(rules))
    _, results = run(app, [TRACE, ROW])
    assert [(one["id"], one["evaluator"]) for one in results] == [("t1", "politeness"), ("t1", "conciseness")]


def test_own_evaluators_come_from_a_folder(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own").mkdir()
    declared = (resource("schemas") / "evaluators" / "politeness.yaml").read_text("utf-8")
    Path("own/tone.yaml").write_text(declared.replace("name: politeness", "name: tone"))
    monkeypatch.setenv("GROUNDWATCH_EVALUATORS__DIRECTORY", "own")
    _, (result,) = run(app, [ROW], "-e", "tone")
    assert result["evaluator_version"].startswith("tone@")
    done = CliRunner().invoke(app, ["--list", "--json"])
    assert [each["name"] for each in json.loads(done.stdout)] == ["tone"]


def test_the_list_tells_name_kind_version_and_meaning(app: typer.Typer) -> None:
    table = CliRunner().invoke(app, ["--list"]).stdout
    for each in SHIPPED.values():
        (line,) = (line for line in table.splitlines() if line.startswith(f"{each.name} "))
        assert each.kind.value in line
        assert each.version.partition("@")[2] in line
        assert each.description in line


@pytest.mark.parametrize(
    ("environment", "extra", "told"),
    [
        ({}, [], "InvalidSettings: name evaluators with --evaluator, or set evaluators.rules"),
        ({}, ["-e", "nope"], "InvalidInput: --evaluator nope: not declared; there are answer_relevance, "),
        ({"POOL__URL": ""}, ["-e", "politeness"], "JudgeUnavailable: pool.url is not set"),
        (
            {"EVALUATORS__RULES": '[{"services": "*", "evaluators": ["nope"]}]'},
            [],
            "InvalidSettings: evaluators.rules[0]: no evaluator is called 'nope'",
        ),
        ({"EVALUATORS__DIRECTORY": "nowhere"}, ["-e", "x"], "InvalidSettings: evaluators.directory: nowhere: "),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_asked(
    app: typer.Typer,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    extra: list[str],
    told: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"GROUNDWATCH_{name}", value)
    done = invoke(app, [ROW], *extra)
    assert told in f"{type(done.exception).__name__}: {done.exception}"
