import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
import typer
from pyarrow import parquet
from typer.testing import CliRunner

from monitor.benchmarks.labelled import read_labelled
from monitor.benchmarks.panel import gguf_names
from monitor.cli import bench_judge, bench_peers
from monitor.domain.errors import InvalidInput, InvalidSettings, JudgeUnavailable
from tests.examples.labelled import halubench, labelled, written
from tests.support.completions import completions

OPTIONS = ["--per-file", "20", "--samples", "100"]


@pytest.fixture
def app():
    app = typer.Typer()
    app.callback()(lambda: None)
    bench_judge.register(app)
    bench_peers.register(app)
    return app


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in "abc":
        written(folder / f"{name}.jsonl", labelled(name, 80))
    return folder


def run(app, *arguments):
    return CliRunner().invoke(app, ["judge", *map(str, arguments), *OPTIONS])


def figures(done):
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    del result["machine"]
    return result


def test_the_shipped_screen_is_ranked_and_written(app, data, tmp_path):
    page = tmp_path / "page.md"
    done = run(app, "--input", data, "--judge", "screen", "--markdown", page)
    assert done.exit_code == 0, done.output
    assert "Means over the data sets" in done.stdout
    assert "fitted on other collections of data sets" in done.stdout.replace("\n", " ")
    assert "## Mean over the data sets" in page.read_text()


def test_the_same_scores_give_the_same_figures_and_nobody_is_asked_twice(app, data, tmp_path):
    scores = tmp_path / "scores"
    arguments = ["--input", data, "--judge", "screen", "--scores", scores, "--json"]
    first = figures(run(app, *arguments))
    before = scores.read_bytes()
    assert figures(run(app, *arguments)) == first
    assert scores.read_bytes() == before
    assert len(before.splitlines()) == 60
    (judge,) = first["judges"]
    assert (judge["judge"], judge["pooled"]["rows"], set(judge["data_sets"])) == ("screen", 60, {"a", "b", "c"})
    assert first["left_out"] is None


def test_parquet_in_halubenchs_columns_gives_the_same_figures(app, data, tmp_path):
    path = tmp_path / "halubench.parquet"
    rows = [row for name in "abc" for row in labelled(name, 80)]
    parquet.write_table(pa.Table.from_pylist(halubench(rows)), path)
    scores = tmp_path / "scores"
    arguments = ["--judge", "screen", "--scores", scores, "--json"]
    assert figures(run(app, "--input", path, *arguments)) == figures(run(app, "--input", data, *arguments))


def pool(monkeypatch, url):
    for name, value in {"URL": url, "PROMPT": "support", "CONCURRENCY": "3", "MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(f"GROUNDWATCH_POOL__{name}", value)


def verdict(message):
    return "No" if sum(map(ord, message)) % 3 else "Yes"


def test_two_judges_are_fused_with_data_sets_left_out(app, data, monkeypatch, tmp_path):
    with completions(verdict) as server:
        pool(monkeypatch, server.url)
        result = figures(run(app, "--input", data, "--judge", "screen", "--judge", "pool", "--json"))
    left_out = result["left_out"]
    assert set(left_out["mean_auroc"]) == {"screen", "pool", "screen + pool"}
    assert left_out["best_single"] == "screen"
    assert left_out["rows"] == 60
    assert set(left_out["adds"]) == set(left_out["costs"]) == {"screen", "pool"}
    assert left_out["costs"]["pool"]["prompt_tokens"] >= 7


def test_fusing_can_be_declined_and_must_be_possible_when_asked_for(app, data):
    done = run(app, "--input", data, "--judge", "screen", "--left-out")
    assert isinstance(done.exception, InvalidInput)
    assert "--left-out: 1 judges" in str(done.exception)


def test_a_pool_that_is_away_ends_the_run_with_what_there_is(app, data, monkeypatch, tmp_path):
    with completions(verdict) as server:
        url = server.url
    pool(monkeypatch, url)
    done = run(app, "--input", data, "--judge", "screen", "--judge", "pool", "--scores", tmp_path / "scores")
    assert isinstance(done.exception, JudgeUnavailable)
    assert "run the same command to go on" in done.stderr
    assert "Means over the data sets" in done.stdout


@pytest.mark.parametrize("judge", ["gguf", "encoder"])
def test_a_judge_without_a_model_says_how_to_name_one(app, data, judge):
    done = run(app, "--input", data, "--judge", judge)
    assert isinstance(done.exception, InvalidSettings)
    assert f"--{judge} PATH" in str(done.exception)


def test_several_gguf_judges_are_named_after_their_files():
    assert gguf_names([Path("m/a.gguf")]) == ["gguf"]
    assert gguf_names([Path("m/a.gguf"), Path("b.gguf")]) == ["gguf a", "gguf b"]


@pytest.mark.timeout(180)
def test_an_interrupted_run_reports_and_the_same_command_goes_on(data, tmp_path):
    scores = tmp_path / "scores"
    # A shell without job control starts what is in its background with Ctrl-C ignored, and children inherit that.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{heard}; from monitor.cli.main import main; main()"
    command = [sys.executable, "-c", start, "bench", "judge", "--input", data]
    command += ["--judge", "pool", "--scores", scores, "--json", *OPTIONS]

    def slowly(message):
        time.sleep(0.1)
        return verdict(message)

    with completions(slowly) as server:
        own = {"URL": server.url, "PROMPT": "support", "CONCURRENCY": "2"}
        environment = {**os.environ, **{f"GROUNDWATCH_POOL__{name}": value for name, value in own.items()}}
        options = {"env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(list(map(str, command)), **options)
        while not scores.exists() or len(scores.read_bytes().splitlines()) < 12:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "run the same command to go on" in err
        kept = len(scores.read_bytes().splitlines())
        assert 12 <= kept < 60
        assert json.loads(out)["judges"][0]["pooled"]["rows"] == kept
        # What is left after an interruption speaks of every data set.
        assert set(json.loads(out)["judges"][0]["data_sets"]) == {"a", "b", "c"}

        asked = len(server.messages)
        again = subprocess.run(list(map(str, command)), check=False, timeout=120, **options)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["judges"][0]["pooled"]["rows"] == 60
    entries = [json.loads(line) for line in scores.read_text().splitlines()]
    assert len({entry["id"] for entry in entries}) == len(entries) == 60
    assert len(server.messages) - asked <= 60 - kept + 4


def test_rows_for_peers_have_questions_are_balanced_and_take_data_sets_in_turn(data):
    written(data / "d.jsonl", [{**row, "question": " "} for row in labelled("d", 20)])
    rows = bench_peers.choose(read_labelled([data]), 12)
    assert [row.hallucinated for row in rows] == [False, True] * 6
    assert {row.file for row in rows} == {"a", "b", "c"}
    with pytest.raises(InvalidInput, match="are wanted"):
        bench_peers.choose(rows[:4], 12)


def test_an_unknown_peer_is_named(app, data, tmp_path):
    done = CliRunner().invoke(app, ["peers", "--input", str(data), "--gguf", str(tmp_path / "x"), "--peer", "truth"])
    assert isinstance(done.exception, InvalidInput)
    assert "truth" in str(done.exception)
