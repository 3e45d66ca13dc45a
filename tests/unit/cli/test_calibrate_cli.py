import json
import random

import pytest
import typer
from typer.testing import CliRunner

from monitor.cli import calibrate, calibrate_scores
from monitor.config import Settings
from monitor.domain.errors import InvalidInput
from monitor.inference.loading import load_calibration, load_screen
from monitor.training.split import balanced, is_calibration_row

WORDS = ("river", "stone", "winter", "garden", "letter", "bridge", "doctor", "market", "silver", "engine", "island")


@pytest.fixture
def app():
    app = typer.Typer()
    calibrate.register(app)
    return app


def labelled(count, seed=3):
    draw = random.Random(seed)
    for number in range(count):
        fact = [draw.choice(WORDS) for _ in range(8)]
        made_up = [draw.choice(WORDS) for _ in range(8)]
        label = "PASS" if number % 2 else "FAIL"
        # Now and then the label is the other way round: no real data set is clean.
        supported = (label == "PASS") != (draw.random() < 0.1)
        answer = " ".join(fact if supported else made_up)
        yield {
            "id": f"r{number}",
            "dataset": "made",
            "question": "",
            "context": [f"{number} {' '.join(fact)}."],
            "answer": f"{answer}.",
            "label": label,
        }


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_calibration_is_fitted_written_and_readable(app, tmp_path):
    source, target = written(tmp_path / "rows.jsonl", labelled(300)), tmp_path / "calibration.json"
    arguments = ["calibrate", "--input", source, "--judge", "screen", "--output", str(target), "--all-rows", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    calibration = load_calibration(target)
    screen = calibration.judges[load_screen(Settings()).identity.version]
    assert (screen.rows, screen.prior, screen.informative) == (300, 0.5, True)
    assert json.loads(done.stdout) == calibration.to_json()
    assert "Reliability" in done.stderr


def test_only_rows_that_training_leaves_out_are_used(tmp_path):
    rows = list(labelled(600))
    path = tmp_path / "rows.jsonl"
    written(path, rows)
    selected = calibrate_scores.select_rows([path], [], all_rows=False)
    expected = balanced([row for row in rows if is_calibration_row(row)])
    assert [row.id for row in selected] == [row["id"] for row in expected]
    assert 0 < len(selected) < 200
    assert sum(row.hallucinated for row in selected) * 2 == len(selected)


def test_excluded_rows_and_their_contexts_are_not_used(tmp_path):
    path, other = tmp_path / "rows.jsonl", tmp_path / "other.jsonl"
    rows = list(labelled(100))
    written(path, rows)
    written(other, [{**row, "id": f"other-{row['id']}"} for row in rows[:50]])
    kept = calibrate_scores.select_rows([path], [other], all_rows=True)
    assert {row.id for row in kept} <= {row["id"] for row in rows[50:]}


def test_scores_are_kept_and_not_asked_for_twice(app, tmp_path):
    source, scores = written(tmp_path / "rows.jsonl", labelled(100)), tmp_path / "scores.jsonl"
    arguments = ["calibrate", "--input", source, "--judge", "screen", "--all-rows", "--scores", str(scores)]
    for name in ("a", "b"):
        done = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    assert len(scores.read_text().splitlines()) == 100
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_too_few_rows_are_refused_with_a_message(app, tmp_path):
    source = written(tmp_path / "rows.jsonl", labelled(20))
    arguments = ["calibrate", "--input", source, "--judge", "screen", "--all-rows", "--output", str(tmp_path / "x")]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, InvalidInput)
    assert not (tmp_path / "x").exists()
