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
from monitor.storage import verifying_receipts
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.verifying import Verification
from tests.examples.assessments import NOON, TOPIC, assessment, dead_letter

DAY = 86_400
Run = Callable[..., tuple[int, str, str]]


def app() -> Typer:
    made = Typer()
    made.callback()(lambda: None)
    register(made)
    return made


@pytest.fixture
def run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", engine.url.render_as_string(hide_password=False))

    def run(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app(), ["verify", *arguments])
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
    assert json.loads(run("--json")[1]) == {
        "days": 4,
        "differing": 0,
        "differences": [],
        "not_counted": [],
        "problem": None,
    }
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
    assert abouts == [*(f"rollups of 2026-03-0{day}" for day in range(1, 5)), f"intake of {TOPIC} 0", "receipts"]
    assert [step.recount().total for step in verification.steps()] == [0] * 6


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
    done = CliRunner().invoke(app(), ["verify", *arguments])
    assert done.exit_code == 1
    assert problem in str(done.exception)


def test_orphans_are_found_across_blocks_and_partitions(
    engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying_receipts, "_BLOCK", 4)
    monkeypatch.setattr(verifying_receipts, "_BLOCKS", 2)
    monkeypatch.setattr(verifying_receipts, "_RANGES", 8)
    ledger = Ledger(engine)
    for partition, count in ((0, 50), (3, 9)):
        # One by one: many ranges, some of which begin in one block and end in another.
        for n in range(0, count, 3):
            ledger.record([assessment(m, partition=partition) for m in range(n, min(n + 3, count))])
    assert run()[:2] == (0, "1 days recounted: all as the rows say\n")
    gone = ["t-0-0", "t-0-7", "t-0-8", "t-0-49", "t-3-4"]
    assert change(engine, "delete from verdict_rows where trace_id = any(:gone)", gone=gone) == 5
    found = json.loads(run("--json")[1])["differences"]
    orphans = {one["key"] for one in found if one["table"] == "receipts"}
    assert orphans == {f"{TOPIC} {name[2:].replace('-', ' ')}" for name in gone}
    assert {(one["table"], one["key"]) for one in found} == {(one.table, one.key) for one in recount(engine)}
    # Retention may have taken them: then nothing can be said.
    change(engine, "insert into expirations (kind, tenant, before) values ('verdicts', '*', '2026-01-01T00:00Z')")
    assert [one for one in json.loads(run("--json")[1])["differences"] if one["table"] == "receipts"] == []


def test_verdicts_are_held_against_receipts_of_their_day_too(filled: Engine, run: Run) -> None:
    lost = "update receipt_ranges set outcomes = overlay(outcomes placing 'u' from 6 for 1)"
    assert change(filled, lost) == 1
    code, out, _ = run("--since", "2026-03-02", "--until", "2026-03-03")
    assert code == 1
    assert f"receipts {TOPIC} 0 5: outcome unjudged, counted verdict" in out
    # The accounting is of no day.
    assert f"intake {TOPIC} 0: verdicts 12, counted 11, unjudged 0, counted 1" in out
    assert "receipts" not in run("--since", "2026-03-03", "--until", "2026-03-04")[1]


def test_steps_that_fail_take_nothing_along(filled: Engine, run: Run) -> None:
    change(filled, "update intake set verdicts = verdicts + 1")
    days = [f"rollups of 2026-03-0{day}" for day in range(1, 5)]
    with filled.connect() as other, other.begin():
        # Whoever counts costs waits, and Postgres ends that.
        other.execute(text("lock table cost_rollups in access exclusive mode"))
        result = CliRunner().invoke(app(), ["verify", "--patience", "1", "--json"])
        page = CliRunner().invoke(app(), ["verify", "--patience", "1", "--until", "2026-03-02"])
        other.execute(text("lock table rollups in access exclusive mode"))
        unready = CliRunner().invoke(app(), ["verify", "--patience", "1"])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["differing"], told["not_counted"]) == (1, 1, days)
    assert [one["table"] for one in told["differences"]] == ["intake"]
    assert "--patience" in told["problem"]
    assert str(result.exception).startswith(f"not counted: {', '.join(days)}: ")
    assert page.stdout.splitlines()[0] == f"intake {TOPIC} 0: verdicts 13, counted 12"
    assert page.stdout.splitlines()[-1] == "1 days recounted: 1 rows differ"
    assert "give it longer with --patience" in str(unready.exception)
    assert run()[1].splitlines()[0].startswith("intake ")


def test_of_many_differences_the_first_are_kept_and_all_are_counted(
    filled: Engine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.storage.recount.MOST_KEPT", 5)
    change(filled, "update rollups set hallucinated = hallucinated + 5")
    told = json.loads(run("--json")[1])
    assert (told["differing"], len(told["differences"])) == (12, 5)
    assert "4 days recounted: 12 rows differ" in run()[1]


def test_hostile_keys_reach_no_terminal(engine: Engine, run: Run) -> None:
    bad = "\x1b[31m\x9b2J\u202e"
    Ledger(engine, dimensions=["release"]).record([assessment(0, tags={"release": bad})])
    change(engine, "update slice_rollups set first_total = first_total + 1")
    for words in ([], ["--json"]):
        code, out, err = run(*words)
        assert code == 1
        assert "slice_rollups" in out
        assert [char for char in out + err if not char.isprintable() and char != "\n"] == []
    assert json.loads(run("--json")[1])["differences"][0]["stored"]["value"] == bad
