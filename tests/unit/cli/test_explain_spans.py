"""`groundwatch explain-spans` as people and machines read it."""

import io
import json
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from monitor.cli import explain_spans
from monitor.domain.errors import InvalidInput
from tests.examples.spans import FILES, FORMS, answers, recorded_bytes


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.callback()(lambda: None)
    explain_spans.register(app)
    return app


def explain(app: typer.Typer, path: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["explain-spans", str(path), *options])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", FILES)
def test_json_has_a_line_for_each_rag_trace(app: typer.Typer, tmp_path: Path, file: str, form: str) -> None:
    path = tmp_path / "export"
    path.write_bytes(recorded_bytes(file, form))
    result = explain(app, path, "--json")
    assert result.exit_code == 0, result.output
    expected = answers(file)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line["trace_id"] for line in lines} == expected.keys()
    for line in lines:
        answer = expected[line["trace_id"]]
        assert (line["question"], line["answer"], line["problems"]) == (answer["question"], answer["answer"], [])
        assert [document["text"] for document in line["documents"]] == answer["documents"]
        assert set(line["documents"][0]) == {"id", "text", "score"}
        assert set(line["sources"]) == {"question", "documents", "answer"}


def test_people_read_where_each_part_came_from(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "export.pb"
    path.write_bytes(recorded_bytes("oi-langchain", "pb"))
    shown = explain(app, path).stdout
    assert "from KBRetriever: retrieval.documents" in shown
    assert shown.rstrip().endswith("360 spans, 40 traces: 40 RAG traces, 0 of them with problems")


def test_what_is_not_understood_is_said(app: typer.Typer, tmp_path: Path) -> None:
    spans = [
        {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "GET \x1b[31m/health"},
        {"traceId": "nonsense", "spanId": "cd" * 8, "name": "bad"},
        {
            "traceId": "ef" * 16,
            "spanId": "ab" * 8,
            "name": "chat",
            "attributes": [
                {"key": "openinference.span.kind", "value": {"stringValue": "LLM"}},
                {"key": "output.value", "value": {"stringValue": "Yes \ud800."}},
            ],
        },
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}), "utf-8")
    shown = explain(app, path).stdout
    assert "1 spans; no span of this trace is a retrieval or an answer of a model" in shown
    assert "spans of no known convention: GET" in shown
    assert "\x1b" not in shown
    assert "problem: no retrieved text" in shown
    assert "1 spans could not be read; the first: traceId" in shown
    (line,) = explain(app, path, "--json").stdout.splitlines()
    assert json.loads(line)["answer"] == "Yes ?."


def test_a_line_for_each_export_is_read_as_the_collector_writes_it(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    whole = json.loads(recorded_bytes("oi-langchain", "json"))
    spans = whole["resourceSpans"][0]["scopeSpans"][0]["spans"]
    batches = [spans[start : start + 7] for start in range(0, len(spans), 7)]
    path.write_text(
        "\n".join(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": batch}]}]}) for batch in batches), "utf-8"
    )
    assert len(explain(app, path, "--json").stdout.splitlines()) == 40


@pytest.mark.parametrize("content", [b"{nonsense", b"\xff\xff\xff", b'{"a": 1}\n{nonsense'])
def test_what_is_no_export_is_refused(app: typer.Typer, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "export"
    path.write_bytes(content)
    assert isinstance(explain(app, path).exception, InvalidInput)
    assert isinstance(explain(app, tmp_path / "absent").exception, InvalidInput)


def test_standard_input_is_read(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(recorded_bytes("tl-llamaindex", "pb"))

    monkeypatch.setattr("sys.stdin", Stdin)
    result = CliRunner().invoke(app, ["explain-spans", "-", "--json"], input=recorded_bytes("tl-llamaindex", "pb"))
    assert len(result.stdout.splitlines()) == 40
