"""`groundwatch verify`: it finds what was corrupted on purpose, says which, and is content otherwise."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, text
from typer import Typer
from typer.testing import CliRunner

from monitor.cli.verify import register
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.verifying import Verification
from tests.examples.assessments import NOON, assessment, dead_letter

DAY = 86_400
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Run:
    app = Typer()
    app.callback()(lambda: None)
    register(app)
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", engine.url.render_as_string(hide_password=False))

    def run(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["verify", *arguments])
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.fixture
def filled(engine: Engine) -> Engine:
    ledger = Ledger(engine, dimensions=["release"])
    said: list[Any] = [assessment(n, probability=n % 3 / 3, seconds_past_noon=n * DAY / 4) for n in range(12)]
    ledger.record([*said, assessment(12, probability=None, escalated=True)], [dead_letter(13)])
    return engine


def change(engine: Engine, statement: str, **values: Any) -> int:
    with engine.begin() as connection:
        return connection.execute(text(statement), values).rowcount


def test_what_was_not_touched_is_as_the_rows_say(filled: Engine, run: Run) -> None:
    code, out, _ = run()
    assert (code, out) == (0, "4 days recounted: all as the rows say\n")
    assert json.loads(run("--json")[1]) == {"days": 4, "differences": []}
    assert run("--since", "2026-03-02", "--until", "2026-03-03")[1] == "1 days recounted: all as the rows say\n"
    assert recount(filled) == []


def test_an_empty_ledger_is_as_it_should_be(run: Run) -> None:
    assert run()[:2] == (0, "0 days recounted: all as the rows say\n")


def test_a_corrupted_rollup_is_named_with_what_it_says(filled: Engine, run: Run) -> None:
    minute = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    assert change(filled, "update rollups set hallucinated = hallucinated + 5 where minute = :m", m=minute) == 1
    code, out, err = run()
    assert code == 1
    assert "rollups city help-desk production faithfulness cascade@000000000001 2026-03-02 12:00:00+00: " in out
    assert "hallucinated 5, counted 0" in out
    assert "rollups of 2026-03-02: 1 differ" in err
    assert run("--since", "2026-03-03")[0] == 0
    assert run("--since", "2000-01-01", "--until", "9999-12-31T23:59:59Z")[0] == 1
    assert run("--until", "2026-03-02")[0] == 0
    assert run("--since", "2026-03-02T13:00:00", "--until", "2026-03-02T14:00:00")[0] == 1


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("delete from rollups where minute = :m", "rollups"),
        ("delete from verdict_rows where event_time = :m", "rollups"),
        (
            """delete from judgement_rows
            where verdict_id = (select verdict_id from verdict_rows where trace_id = 't-0-0')""",
            "cost_rollups",
        ),
        ("update slice_rollups set first_total = first_total + 1 where minute = :m", "slice_rollups"),
        ("update intake set verdicts = verdicts + 1", "intake"),
        ("update receipt_ranges set outcomes = overlay(outcomes placing '-' from 4 for 1)", "intake"),
        (
            """update verdict_rows set outcome = 'p', hallucinated = null, probability = null, reason = 'x'
            where event_time = :m""",
            "receipts",
        ),
    ],
)
def test_whatever_is_corrupted_is_found_as_a_recount_of_all_finds_it(
    filled: Engine, run: Run, statement: str, table: str
) -> None:
    parameters = {"m": NOON} if ":m" in statement else {}
    if "event_time" in statement or "minute" in statement:
        parameters = {"m": datetime(2026, 3, 2, 12, 0, tzinfo=UTC)}
    assert change(filled, statement, **parameters) >= 1
    code, out, _ = run("--json")
    found = json.loads(out)["differences"]
    assert code == 1
    assert table in {one["table"] for one in found}
    assert {(one["table"], one["key"]) for one in found} == {(one.table, one.key) for one in recount(filled)}


def test_each_day_is_a_step_of_its_own(filled: Engine) -> None:
    verification = Verification(filled, since=None, until=None)
    abouts = [step.about for step in verification.steps()]
    assert abouts == [*(f"rollups of 2026-03-0{day}" for day in range(1, 5)), "intake", "receipts"]
    assert len(verification) == len(abouts)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--since", "soon"], "--since: 'soon' is no time"),
        (["--since", "2026-03-02", "--until", "2026-03-02"], "nothing to verify"),
        (["--until", "9999-12-31T23:59:59-14:00"], "--until: '9999-12-31T23:59:59-14:00' is out of range"),
        (["--since", "999999d999999d"], "--since: '999999d999999d' ago is before all calendars"),
    ],
)
def test_times_that_are_none_are_named(run: Run, arguments: list[str], problem: str) -> None:
    app = Typer()
    app.callback()(lambda: None)
    register(app)
    done = CliRunner().invoke(app, ["verify", *arguments])
    assert done.exit_code == 1
    assert problem in str(done.exception)
