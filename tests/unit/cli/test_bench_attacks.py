import json

import pytest
from typer.testing import CliRunner

from monitor.benchmarks.attacks_families import FAMILIES
from monitor.cli.main import app


@pytest.fixture
def labelled(tmp_path):
    path = tmp_path / "bridges.jsonl"
    rows = [
        {
            "id": str(number),
            "dataset": "bridges",
            "question": "When was the bridge finished?",
            "context": [f"Work on bridge {number} began in 1880. Tickets are sold at the gate."],
            "answer": f"Queen Ottilie of Bavaria finished bridge {number} in 1935 with Dutch money.",
            "label": "FAIL",
        }
        for number in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["bench", "attacks", "--judge", "screen", *map(str, arguments)])


def test_the_screen_under_attack_as_json_and_markdown_and_again_from_kept_scores(labelled, tmp_path):
    kept, page = tmp_path / "scores.jsonl", tmp_path / "attacks.md"
    limit = len(FAMILIES)
    options = ("--input", labelled, "--limit", limit, "--scores", kept, "--markdown", page, "--json")
    first = run(*options)
    assert first.exit_code == 0, first.output
    value = json.loads(first.stdout)
    (judge,) = value["judges"]
    assert judge["overall"]["n"] == limit
    assert judge["overall"]["caught"] > limit / 2
    assert judge["calibrated"]
    assert (judge["overall"]["crashes"], judge["overall"]["hangs"], value["parsers"]["forged"]) == (0, 0, 0)
    assert "# Judges under attack" in page.read_text()
    written = kept.read_bytes()
    assert run(*options).stdout == first.stdout
    assert kept.read_bytes() == written


def test_a_table_names_every_family(labelled):
    result = run("--input", labelled, "--limit", len(FAMILIES))
    assert result.exit_code == 0, result.output
    assert all(family.name in result.stdout for family in FAMILIES)
    assert "0 forged verdicts accepted" in result.stdout


def test_rows_without_a_hallucination_are_refused(labelled):
    labelled.write_text(labelled.read_text().replace("FAIL", "PASS"))
    assert run("--input", labelled).exit_code != 0
