"""`groundwatch drift backtest` as its user sees it."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from monitor.cli import drift
from monitor.domain.errors import InvalidInput

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    drift.register(app)
    return app


@pytest.fixture(scope="module")
def csv() -> str:
    rng = random.Random(5)
    lines = ["event_time,segment,label"]
    for index in range(1500):
        rate = 0.4 if index >= 1200 else 0.1
        label = "FAIL" if rng.random() < rate else "PASS"
        lines.append(f"{(START + timedelta(minutes=index)).isoformat()},acme/qa/prod,{label}")
    return "\n".join(lines)


OPTIONS = ("drift", "backtest", "--arl", "20000", "--baseline-n", "500")


def test_one_json_line_an_alarm(app: typer.Typer, csv: str, tmp_path: Path) -> None:
    path = tmp_path / "verdicts.csv"
    path.write_text(csv)
    result = CliRunner().invoke(app, [*OPTIONS, "--input", str(path), "--json"])
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    alarm = json.loads(line)
    assert set(alarm) == {
        "segment",
        "event_time",
        "direction",
        "evidence",
        "rate_before",
        "rate_after",
        "change_at",
        "change_earliest",
        "change_latest",
        "recovers",
        "second_opinion",
        "delay_verdicts",
        "verdicts_seen",
    }
    assert (alarm["segment"], alarm["direction"]) == ("acme/qa/prod", "rise")
    assert 1200 <= (datetime.fromisoformat(alarm["event_time"]) - START) / timedelta(minutes=1) < 1300


def test_standard_input_and_a_table(app: typer.Typer, csv: str) -> None:
    result = CliRunner().invoke(app, [*OPTIONS, "--input", "-"], input=csv, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "1 alarm" in result.stdout
    assert "acme/qa/prod" in result.stdout


def test_no_alarm_is_no_line(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, [*OPTIONS, "--input", "-", "--json"], input="event_time,segment,label\n")
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"event_time,segment,label\n2026-01-01,s,1\nyesterday,s,1\n", "line 3, column event_time: 'yesterday'"),
        (b"event_time,segment,label\n2026-01-01,s,\xff\n", "not UTF-8"),
        (b"a,b\n", "line 1: no column 'event_time'"),
    ],
)
def test_a_bad_file_is_one_clean_error(app: typer.Typer, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "verdicts.csv"
    path.write_bytes(content)
    result = CliRunner().invoke(app, [*OPTIONS, "--input", str(path)])
    assert isinstance(result.exception, InvalidInput)
    assert message in str(result.exception)
    assert result.stdout == ""


def test_a_missing_file_is_named(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*OPTIONS, "--input", str(tmp_path / "absent.csv")])
    assert isinstance(result.exception, InvalidInput)
    assert "absent.csv: No such file" in str(result.exception)


@pytest.mark.parametrize("option", [("--arl", "1"), ("--baseline-n", "0")])
def test_a_meaningless_option_is_wrong_usage(app: typer.Typer, option: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["drift", "backtest", "--input", "-", *option], input="")
    assert result.exit_code == 2
