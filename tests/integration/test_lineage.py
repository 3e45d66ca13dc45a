"""`groundwatch trace` on a real ledger: all that happened to a trace, in order, and nothing that a terminal obeys."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import Engine, insert, text
from typer.testing import CliRunner

from monitor.cli import trace as command
from monitor.domain.alert import AlertState
from monitor.domain.errors import InvalidInput
from monitor.domain.trace import Document, Segment, Slice
from monitor.domain.verdict import FAITHFULNESS
from monitor.storage import lineage_letters
from monitor.storage.alerts import raise_alert
from monitor.storage.engine import transaction
from monitor.storage.feedback import FeedbackBook
from monitor.storage.labels import Window, draw_tasks
from monitor.storage.ledger import Ledger
from monitor.storage.lineage import Happening, TraceKey
from monitor.storage.lineage_steps import read_lineage
from monitor.storage.replays import Kind, ReplayBook, Selection
from monitor.storage.tables import confirmation_samples
from tests.examples.alerts import alert
from tests.examples.assessments import NOON, SPAN, TOPIC, VERSION, assessment, dead_letter, verdict
from tests.examples.feedback import feedback
from tests.examples.filled import HOUR, NEXT_VERSION, fill

OTEL = "0af7651916cd43dd8448eb211c80319c"
PAGE = Path(__file__).parents[2].joinpath("docs", "lineage.md").read_text(encoding="utf-8")
Run = Callable[..., Any]


@pytest.fixture
def run(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", postgres_url)
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    return lambda *words: CliRunner().invoke(app, ["trace", *words])


@pytest.fixture
def steps(run: Run) -> Callable[..., list[dict[str, Any]]]:
    def told(*words: str) -> list[dict[str, Any]]:
        result = run(*words, "--json")
        assert result.exit_code == 0, result.exception
        return [json.loads(line) for line in result.stdout.splitlines()]

    return told


Told = Callable[..., list[dict[str, Any]]]


def of(steps: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [step for step in steps if step["step"] == name]


def test_a_trace_that_the_pool_judged_otherwise(engine: Engine, steps: Told, run: Run) -> None:
    fill(engine)
    told = steps("t-0-2")
    assert [step["step"] for step in told] == [
        *("answered", "received", "judged", "judged", "first verdict", "decided", "counted"),
        *("judged", "revised", "escalated", "settled", "verdict"),
    ]
    assert {(step["tenant"], step["trace_id"]) for step in told} == {("city", "t-0-2")}
    answered, received, screen, edge, first, decided, counted, pool, revised, escalated, settled, now = told
    assert (answered["at"], answered["service"]) == ((HOUR + timedelta(minutes=2)).isoformat(), "help-desk")
    assert answered["documents"][0]["text"] == "The library opens at nine."
    assert [received[name] for name in ("topic", "partition", "offset", "outcome")] == [TOPIC, 0, 2, "verdict"]
    assert (screen["tier"], screen["probability"], screen["chosen_because"]) == ("screen", 0.25, "all")
    assert screen["unsupported"][0]["text"] == "At te"
    assert (edge["tier"], edge["reason"]) == ("edge", "unparseable")
    assert (first["label"], first["probability"]) == ("faithful", 0.25)
    assert (decided["action"], decided["decision_reason"], decided["inclusion_probability"]) == (
        "escalate",
        "audit",
        0.02,
    )
    assert (counted["verdicts"], counted["hallucinated"], counted["seen_by_detector"]) == (1, 1, False)
    assert (pool["tier"], pool["latency_seconds"], pool["prompt_tokens"], pool["cost_usd"]) == ("pool", 1.5, 900, 0.001)
    assert (revised["label"], revised["revision"]) == ("hallucinated", 1)
    assert (escalated["reason"], escalated["priority"]) == ("audit", 100)
    assert (settled["state"], settled["attempts"], settled["claims"]) == ("done", 1, 1)
    assert (now["label"], now["judge_version"]) == ("hallucinated", VERSION)
    assert (now["unsupported"][0]["text"], now["unsupported"][0]["support"]) == ("At te", "he ")
    page = run("t-0-2").stdout
    assert "⟦At te⟧n, on the moon." in page
    assert "hallucinated, with a probability of 90.0%" in page


def test_what_came_twice_and_what_people_and_later_judges_said(engine: Engine, steps: Told, run: Run) -> None:
    fill(engine)
    window = Window(
        segment=Segment(tenant="city", service="help-desk", environment="production"),
        evaluator=FAITHFULNESS,
        since=HOUR,
        until=HOUR + timedelta(hours=1),
    )
    draw_tasks(engine, window, count=100, actor="cy")
    told = steps("t-0-0")
    assert [(step["offset"], step["outcome"]) for step in of(told, "received")] == [(0, "verdict"), (10, "duplicate")]
    [labelled] = of(told, "labelled")
    assert (labelled["actor"], labelled["label"], labelled["note"]) == ("bo", "hallucinated", "nine, not ten")
    [said] = of(told, "feedback")
    assert (said["feedback_id"], said["thumb"], said["outcome"]) == ("f-1", "down", "escalated")
    [drawn] = of(told, "drawn")
    assert (drawn["actor"], drawn["eligible"]) == ("cy", 4)
    standing = {step["judge_version"]: step["label"] for step in of(told, "verdict")}
    assert standing == {VERSION: "faithful", NEXT_VERSION: "hallucinated"}
    assert NEXT_VERSION in run("t-0-0").stdout


def test_a_trace_that_waits_and_one_that_was_given_up(engine: Engine, steps: Told, run: Run) -> None:
    fill(engine)
    [waits] = of(steps("t-0-4"), "waits")
    assert (waits["state"], waits["attempts"], waits["last_error"]) == ("waiting", 2, "busy")
    assert "none yet: the pool is asked" in run("t-0-4").stdout
    told = steps("t-0-6")
    [settled] = of(told, "settled")
    assert (settled["state"], settled["last_error"]) == ("given_up", "too_long: 40,000 tokens")
    assert [step["reason"] for step in of(told, "verdict")] == ["too_long"]
    assert "after the pool: none, too_long: 40,000 tokens" in run("t-0-6").stdout


def test_alerts_in_whose_time_it_was_answered(engine: Engine, ledger: Ledger, steps: Told, run: Run) -> None:
    ledger.record([assessment(0, seconds_past_noon=30, prompt_version="v7"), assessment(1, seconds_past_noon=-60)])
    whole = alert("a-whole")
    over = replace(whole, alert_id="a-over", state=AlertState.RESOLVED)
    with transaction(engine) as connection:
        for raised in (
            whole,
            replace(whole, alert_id="a-mine", part=Slice(dimension="prompt_version", value="v7")),
            replace(whole, alert_id="a-other", part=Slice(dimension="release", value="6")),
            over,
        ):
            raise_alert(connection, raised)
        connection.execute(
            text("update alerts set resolved_at = :at where alert_id = 'a-over'"), {"at": NOON + timedelta(seconds=10)}
        )
        connection.execute(
            insert(confirmation_samples).values(
                alert_id="a-whole",
                tenant="city",
                trace_id="t-0-0",
                evaluator=FAITHFULNESS,
                judge_version=VERSION,
                later=True,
            )
        )
    told = steps("t-0-0")
    assert sorted(step["alert_id"] for step in of(told, "alert")) == ["a-mine", "a-whole"]
    assert [(step["alert_id"], step["later"]) for step in of(told, "confirming")] == [("a-whole", True)]
    page = run("t-0-0").stdout
    assert "rise of prompt_version = v7: 10.0% → 30.0% since 2026-03-01 12:00" in page
    assert "drawn from after the change, for the pool to confirm alert a-whole" in page
    assert of(steps("t-0-1"), "alert") == []


def test_an_opentelemetry_trace_tells_all_its_answers(engine: Engine, ledger: Ledger, steps: Told) -> None:
    ledger.record([assessment(number, otel_trace_id=OTEL) for number in (0, 1)])
    FeedbackBook(engine).record([feedback("f-9", otel_trace_id=OTEL, comment="both")])
    told = steps(OTEL.upper())
    assert [step["trace_id"] for step in of(told, "verdict")] == ["t-0-0", "t-0-1"]
    assert [step["joined_by"] for step in of(told, "feedback")] == ["otel_trace_id", "otel_trace_id"]
    assert {step["trace_id"] for step in steps("t-0-1")} == {"t-0-1"}


def test_tenants_with_the_same_id_are_named_and_chosen(ledger: Ledger, run: Run, steps: Told) -> None:
    same = {"trace_id": "same", "service": "s"}
    ledger.record([assessment(0, tenant="acme", **same), assessment(1, tenant="city", **same)])
    refused = run("same").exception
    assert isinstance(refused, InvalidInput)
    assert "'acme', 'city'" in str(refused)
    assert "--tenant" in str(refused)
    assert {step["tenant"] for step in steps("same", "--tenant", "acme")} == {"acme"}
    absent = run("same", "--tenant", "nobody").exception
    assert isinstance(absent, InvalidInput)
    assert str(absent).startswith("tenant 'nobody' has no trace 'same'")


def test_an_unknown_trace_is_an_error_and_a_dead_letter_is_told(ledger: Ledger, run: Run, steps: Told) -> None:
    unknown = run("t-\x1b[31m")
    assert isinstance(unknown.exception, InvalidInput)
    assert unknown.exit_code == 1
    assert str(unknown.exception).startswith(r"no tenant has a trace 't-\x1b[31m'")
    bare = dead_letter(0)
    mine, other = (
        json.dumps({"trace_id": "t-bad", "tenant": tenant, "answer": 7}).encode() for tenant in ("city", "acme")
    )
    ledger.record(
        [],
        [
            bare,
            replace(bare, origin=replace(bare.origin, offset=1), raw=mine),
            replace(bare, origin=replace(bare.origin, offset=2), raw=other),
            replace(bare, origin=replace(bare.origin, offset=3), raw=b'{"trace_id": "t-bad'),
            replace(bare, origin=replace(bare.origin, offset=4), raw=b'{"trace_id": "t-bad-2"'),
        ],
    )
    assert [step["offset"] for step in steps("t-bad")] == [1, 2]
    assert [step["offset"] for step in steps("t-bad", "--tenant", "city")] == [1]
    assert "could not be read: not_json" in run("t-bad").stdout
    # Once it came whole, its failed attempts are part of its history.
    ledger.record([assessment(5, trace_id="t-bad")])
    assert [step["offset"] for step in of(steps("t-bad"), "dead letter")] == [1]


def test_an_id_that_came_again_days_later_is_two_answers(engine: Engine, ledger: Ledger, steps: Told, run: Run) -> None:
    same, later = {"trace_id": "same"}, 3 * 86_400
    ledger.record([assessment(0, probability=0.1, answer="At nine.", **same)])
    ledger.record([assessment(1, probability=0.9, answer="On the moon.", seconds_past_noon=later, **same)])
    with transaction(engine) as connection:
        raise_alert(connection, alert("a-1"))
        drawn = {"alert_id": "a-1", "tenant": "city", "evaluator": FAITHFULNESS, "judge_version": VERSION}
        connection.execute(insert(confirmation_samples).values(trace_id="same", later=True, **drawn))
    told = steps("same")
    times = [NOON.isoformat(), (NOON + timedelta(seconds=later)).isoformat()]
    assert [(step["at"], step["answer"]) for step in of(told, "answered")] == [
        (times[0], "At nine."),
        (times[1], "On the moon."),
    ]
    for name in ("judged", "first verdict", "decided", "counted", "verdict"):
        each = 2 if name == "judged" else 1
        assert [step["event_time"] for step in of(told, name)] == [times[0]] * each + [times[1]] * each, name
    assert [(step["offset"], step["outcome"]) for step in of(told, "received")] == [(0, "verdict"), (1, "verdict")]
    assert [(step["label"], step["answer"]) for step in of(told, "verdict")] == [
        ("faithful", "At nine."),
        ("hallucinated", "On the moon."),
    ]
    # Offsets mean the words of their own answer.
    words = [step["unsupported"][0]["text"] for step in of(told, "judged") if step["tier"] == "screen"]
    assert words == ["At ni", "On th"]
    assert len(of(told, "confirming")) == 1
    page = run("same").stdout
    assert "of the answer of 2026-03-01 12:00:00" in page
    assert "⟦On th⟧e moon." in page


def test_what_a_replay_brought_says_so(engine: Engine, ledger: Ledger, steps: Told, run: Run) -> None:
    ledger.record([assessment(0), assessment(1, probability=None)])
    selection = Selection(kind=Kind.TRACES, since=None, until=NOON)
    replay = ReplayBook(engine).begin(selection, judge_version=NEXT_VERSION, actor="ana").replay_id
    anew = [
        replace(said, origin=replace(said.origin, topic="rag.replays.v1", replay_id=replay))
        for said in (assessment(0, probability=0.9, judge_version=NEXT_VERSION), assessment(1, probability=0.9))
    ]
    ledger.record([replace(one, judged_at=one.judged_at + timedelta(hours=1)) for one in anew])
    told = steps("t-0-0")
    for name in ("first verdict", "verdict"):
        assert [(step["replay_id"], step["replayed_by"]) for step in of(told, name)] == [(None, None), (replay, "ana")]
    assert [step["seen_by_detector"] for step in of(told, "counted")] == [False, None]
    assert [(step["topic"], step["replay_id"]) for step in of(told, "received")] == [
        (TOPIC, None),
        ("rag.replays.v1", replay),
    ]
    page = run("t-0-0").stdout
    assert page.count(f"judged anew by replay {replay}, which ana began") == 2
    assert page.count("has not seen it") == 1
    assert "1 verdict, 1 hallucinated; no detector hears of replays" in page
    # The same version, which now can judge: its own word is revised, and not by the pool.
    assert [step["by"] for step in of(steps("t-0-1"), "revised")] == ["replay"]
    assert "after a replay: hallucinated" in run("t-0-1").stdout


def test_dead_letters_that_are_too_many_hide_nothing_else(
    engine: Engine, ledger: Ledger, run: Run, steps: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage_letters, "_AT_ONCE", 3)
    bare = dead_letter(0)
    bad = json.dumps({"trace_id": "t-0-0", "answer": 7}).encode()
    letters = [replace(bare, origin=replace(bare.origin, offset=n), raw=bad) for n in range(1, 31)]
    ledger.record([assessment(0)], letters)
    told = steps("t-0-0")
    assert len(of(told, "dead letter")) == 20
    assert of(told, "not searched") == []
    key = TraceKey(tenant="city", trace_id="t-0-0")
    hurried = read_lineage(engine, key, search_seconds=0)
    assert [step.facts for step in hurried if step.happening is Happening.NOT_SEARCHED] == [{"seconds": 0}]
    assert [step.happening for step in hurried if step.happening is Happening.VERDICT] == [Happening.VERDICT]
    # Postgres ends what takes too long, here because another holds the table.
    with engine.connect() as other, other.begin():
        other.execute(text("lock table dead_letters in access exclusive mode"))
        held = read_lineage(engine, key, search_seconds=0.2)
        page = run("t-0-0").stdout
        unknown = run("t-nowhere").exception
    assert [step.facts for step in held if step.happening is Happening.NOT_SEARCHED] == [{"seconds": 0.2}]
    assert "dead letters were not all searched in 3 s" in page
    assert "faithful; hallucinated with a probability of 25.0%" in page
    assert str(unknown).endswith("; dead letters are many, and were not all searched")


def test_an_id_that_is_no_text_is_refused(run: Run) -> None:
    for words, name in ((["\udcff"], "ID"), (["t", "--tenant", "\udcff"], "--tenant")):
        refused = run(*words).exception
        assert isinstance(refused, InvalidInput)
        assert str(refused) == f"{name}: '\\udcff' is no UTF-8"


def test_texts_that_are_gone_are_said_to_be(engine: Engine, ledger: Ledger, run: Run, steps: Told) -> None:
    ledger.record([assessment(0, probability=0.9)])
    with transaction(engine) as connection:
        connection.execute(text("delete from payloads"))
        raise_alert(connection, replace(alert(), part=Slice(dimension="release", value="7")))
    told = steps("t-0-0")
    assert of(told, "answered")[0]["texts_kept"] is False
    assert of(told, "alert")[0]["in_slice"] is None
    page = run("t-0-0").stdout
    assert "its texts are no longer kept" in page
    assert "unsupported (0.75): characters 0 to 5" in page


def test_hostile_texts_reach_no_terminal(ledger: Ledger, run: Run, steps: Told) -> None:
    bad = "\x1b[31m[bold red]\x9b2J\u202eevil\x07\r\n[/nope]"
    outcome = replace(verdict(0.9), reasoning=bad, unsupported=(replace(SPAN, start=0, end=len(bad), document_id=bad),))
    poisoned = replace(
        assessment(
            0,
            trace_id=f"t{bad}",
            question=bad,
            answer=bad,
            documents=(Document(id=bad, text=bad),),
            tags={bad: bad},
            prompt_version=bad,
        ),
        outcome=outcome,
    )
    ledger.record([poisoned])
    page = run(f"t{bad}").stdout
    assert "[bold red]" in page
    assert "⟦ [31m[bold red] 2J evil" in page
    for output in (page, run(f"t{bad}", "--json").stdout):
        assert [char for char in output if not char.isprintable() and char != "\n"] == []
    assert of(steps(f"t{bad}"), "verdict")[0]["reasoning"] == bad


def test_the_page_names_every_step_and_field(engine: Engine, steps: Told) -> None:
    fill(engine)
    rows = {row.split("`")[1]: row for row in PAGE.splitlines() if row.startswith("| `")}
    assert list(rows) == [str(happening) for happening in Happening]
    every = "`tenant` `trace_id` `at` `step` `evaluator` `judge_version` `event_time`"
    for step in (step for trace_id in ("t-0-0", "t-0-2", "t-0-4") for step in steps(trace_id)):
        row = rows[step["step"]] + (rows["settled"] if step["step"] == "waits" else "") + every
        assert [field for field in step if f"`{field}`" not in row] == [], step["step"]
