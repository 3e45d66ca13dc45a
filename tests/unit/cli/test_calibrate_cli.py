import json
import random
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import typer
from typer.testing import CliRunner

from monitor.benchmarks.panel import Benched
from monitor.benchmarks.scores import Score, ScoreFile
from monitor.cli import calibrate, calibrate_scores
from monitor.config import Settings
from monitor.domain.errors import InvalidInput
from monitor.inference.loading import load_calibration, load_screen
from monitor.inference.pool import PoolJudge
from monitor.outbound import AsyncHttpClient
from monitor.training.rows import read_rows
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


# Policy


def run_policy(app, *arguments):
    return CliRunner().invoke(app, ["calibrate", "policy", *map(str, arguments)])


def test_a_policy_is_chosen_for_an_imagined_pool(app, tmp_path):
    source, picture = written(tmp_path / "rows.jsonl", labelled(400)), tmp_path / "curve.svg"
    arguments = ("--input", source, "--judge", "screen", "--all-rows", "--simulate", "0.95,0.9")
    done = run_policy(app, *arguments, "--pool-share", 0.25, "--cost-of-miss", 3, "--plot", picture)
    assert done.exit_code == 0, done.output
    pasted = Settings(policy=tomllib.loads(done.stdout[done.stdout.index("[policy]") :])["policy"]).policy
    assert (pasted.mode, pasted.cost_of_miss, pasted.threshold) == ("value", 3.0, 0.25)
    assert pasted.pool_price > 0
    assert "chosen" in done.stdout
    assert "●" in done.stdout
    drawn = ET.parse(picture).getroot()
    shapes = [part.get("class") for part in drawn.iter() if part.get("class")]
    assert shapes.count("found") == shapes.count("expected") == shapes.count("chosen") == 2


def test_the_curve_comes_as_json_and_keeps_the_share(app, tmp_path):
    source = written(tmp_path / "rows.jsonl", labelled(400))
    arguments = ("--input", source, "--judge", "screen", "--all-rows", "--simulate", "0.95,0.9", "--json")
    found = json.loads(run_policy(app, *arguments, "--pool-share", 0.25).stdout)
    (step,) = found["steps"]
    assert step["tier"] == "pool"
    assert step["chosen"]["share"] <= 0.25
    shares = [point["share"] for point in step["curve"]]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert found["settings"]["pool_price"] == pytest.approx(step["price"], abs=1e-6)
    free = json.loads(run_policy(app, *arguments).stdout)["steps"][0]
    assert free["price"] == 0
    assert free["chosen"]["share"] > step["chosen"]["share"]


def test_judges_are_asked_from_the_cheapest_and_kept_scores_ask_no_server(app, tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDWATCH_POOL__URL", "http://127.0.0.1:9/v1")
    rows, scores = list(labelled(400)), tmp_path / "scores.jsonl"
    source = written(tmp_path / "rows.jsonl", rows)
    settings, draw = Settings(pool={"url": "http://127.0.0.1:9/v1"}), random.Random(1)
    pool, kept = PoolJudge(settings.pool, AsyncHttpClient(deadline_seconds=1)).identity, ScoreFile(scores)
    for row in read_rows(Path(source)):
        kept.keep(pool, row, Score(score=(2 if row.hallucinated else -2) + draw.gauss(0, 1)))
    done = run_policy(app, "--input", source, "--judge", "pool", "--judge", "screen", "--all-rows", "--scores", scores)
    assert done.exit_code == 0, done.output
    assert f"Asking {pool.version}" in done.stdout
    assert "pool_price" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--judge", "screen"], "two"),
        (["--judge", "screen", "--simulate", "0.9"], "two numbers"),
        (["--judge", "screen", "--simulate", "0.9,1.5"], "two numbers"),
        (["--judge", "screen", "--judge", "pool", "--simulate", "0.9,0.9"], "in place of"),
    ],
)
def test_a_policy_that_cannot_be_chosen_is_refused_as_wrong_usage(app, tmp_path, arguments, complaint):
    done = run_policy(app, "--input", written(tmp_path / "rows.jsonl", labelled(100)), "--all-rows", *arguments)
    assert done.exit_code == 2
    assert complaint in " ".join(done.output.replace("│", " ").split())


def test_a_screen_that_knows_nothing_leaves_nothing_to_weigh(app, tmp_path):
    draw = random.Random(2)
    rows = [{**row, "label": draw.choice(["PASS", "FAIL"])} for row in labelled(300)]
    source = written(tmp_path / "rows.jsonl", rows)
    done = run_policy(app, "--input", source, "--judge", "screen", "--all-rows", "--simulate", "0.9,0.9")
    assert isinstance(done.exception, InvalidInput)
    assert "nothing tells" in str(done.exception)


@pytest.mark.parametrize("missing", ["--input", "--judge", "--output"])
def test_calibrate_alone_names_what_is_missing(app, tmp_path, missing):
    given = {"--input": str(tmp_path / "x"), "--judge": "screen", "--output": str(tmp_path / "y")}
    arguments = [word for pair in given.items() if pair[0] != missing for word in pair]
    done = CliRunner().invoke(app, ["calibrate", *arguments])
    assert done.exit_code == 2
    assert missing in done.output


def test_segments_come_from_fields_of_the_rows(app, tmp_path):
    rows = [
        {**row, "tenant": "acme", "service": f"s{number // 2 % 2}"} for number, row in enumerate(labelled(1200, seed=5))
    ]
    # One service's labels are wrong half the time: its probabilities are flatter than the other's.
    draw = random.Random(6)
    for row in rows:
        if row["service"] == "s0" and draw.random() < 0.5:
            row["label"] = draw.choice(["PASS", "FAIL"])
    source, target = written(tmp_path / "rows.jsonl", rows), tmp_path / "calibration.json"
    arguments = ["calibrate", "--input", source, "--judge", "screen", "--all-rows", "--output", str(target)]
    done = CliRunner().invoke(app, [*arguments, "--segment-by", "tenant,service"])
    assert done.exit_code == 0, done.output
    (screen,) = load_calibration(target).judges.values()
    assert screen.segments["acme/s0"].slope < screen.segments["acme/s1"].slope
    assert "told apart" in done.stderr
    refused = CliRunner().invoke(app, [*arguments, "--segment-by", "region"])
    assert isinstance(refused.exception, InvalidInput)
    assert "'region'" in str(refused.exception)


def test_whoever_can_be_calibrated_can_be_opened_as_a_benchmarks_judge() -> None:
    assert [Benched(judge.value) for judge in calibrate_scores.Calibrated] == [
        Benched.SCREEN,
        Benched.ENCODER,
        Benched.GGUF,
        Benched.POOL,
    ]
