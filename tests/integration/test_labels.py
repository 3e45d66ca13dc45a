"""People's labels over a real ledger: drawn, given, and what the rates make of them."""

import json
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from monitor.cli import labels
from monitor.domain.errors import InvalidInput
from monitor.domain.rate import NoRate, Rate
from monitor.domain.verdict import FAITHFULNESS, Label
from monitor.services.rates import SegmentRates, segment_rates
from monitor.storage.engine import transaction
from monitor.storage.labels import Draw, Labelled, Window, add_labels, draw_tasks
from monitor.storage.ledger import Ledger
from monitor.storage.rates import Trust
from tests.examples.assessments import NOON, assessment, trace

TRACES = 800
WINDOW = {"since": NOON, "until": NOON + timedelta(hours=2)}
ANSWERS = Window(segment=trace("any").segment, evaluator=FAITHFULNESS, **WINDOW)


@pytest.fixture
def truth(ledger: Ledger) -> dict[str, bool]:
    """Of each trace whether it is hallucinated; the local judges are right 0.8 and 0.9 of the time."""
    dice = random.Random(8)
    made = [(dice.random() < 0.2, dice.random()) for _ in range(TRACES)]
    called = [luck < 0.8 if hallucinated else luck < 0.1 for hallucinated, luck in made]
    assessments = [
        assessment(number, probability=0.9 if said else 0.1, seconds_past_noon=number * 5, chance=0.0)
        for number, said in enumerate(called)
    ]
    ledger.record(assessments)
    return {one.trace.trace_id: made[number][0] for number, one in enumerate(assessments)}


def said_of(draw: Draw, truth: dict[str, bool]) -> list[Labelled]:
    return [
        Labelled(
            tenant=ANSWERS.segment.tenant,
            trace_id=task.trace_id,
            evaluator=FAITHFULNESS,
            label=Label.HALLUCINATED if truth[task.trace_id] else Label.FAITHFUL,
        )
        for task in draw.tasks
    ]


def drawn(engine: Engine, count: int, window: Window = ANSWERS) -> Draw:
    draw = draw_tasks(engine, window, count=count, actor="ana")
    assert draw is not None
    return draw


def by_people(engine: Engine, **changes: object) -> SegmentRates:
    (rates,) = segment_rates(engine, **{**WINDOW, "skill_since": NOON, "trust": Trust.PEOPLE, **changes})
    return rates


def test_labels_of_a_draw_make_the_rates_honest(engine: Engine, truth: dict[str, bool]) -> None:
    draw = drawn(engine, 300)
    assert (draw.eligible, len({task.trace_id for task in draw.tasks})) == (TRACES, 300)
    assert add_labels(engine, said_of(draw, truth), actor="ana") == 300
    rates = by_people(engine)
    assert rates.audits == 300
    assert isinstance(rates.corrected, Rate)
    assert isinstance(rates.powered, Rate)
    share = sum(truth.values()) / TRACES
    assert rates.powered.low < share < rates.powered.high
    assert rates.corrected.low < share < rates.corrected.high
    # The pool said nothing, and is not confused with people.
    assert isinstance(by_people(engine, trust=Trust.POOL).powered, NoRate)


def test_answers_that_nobody_got_round_to_only_make_the_draw_smaller(engine: Engine, truth: dict[str, bool]) -> None:
    first, second = drawn(engine, 200), drawn(engine, 160)
    answered = said_of(first, truth)[:100] + said_of(second, truth)
    add_labels(engine, answered, actor="ana")
    # Labels of one draw answer tasks of the other, too.
    tasks = [{task.trace_id for task in draw.tasks} for draw in (first, second)]
    labelled = {one.trace_id for one in answered}
    missed = 1.0
    for ids in tasks:
        missed *= 1 - len(ids & labelled) / TRACES
    rates = by_people(engine)
    assert rates.audits == len(labelled)
    assert isinstance(rates.powered, Rate)
    weight = rates.audits / (1 - missed)
    # 750 on average, with a standard deviation of 14: what one draw has answered lies in the other one, too.
    assert weight == pytest.approx(TRACES, rel=0.14)


def test_labels_that_nobody_drew_count_for_no_rate(engine: Engine, truth: dict[str, bool]) -> None:
    picked = [
        Labelled(tenant="city", trace_id=trace_id, evaluator=FAITHFULNESS, label=Label.HALLUCINATED)
        for trace_id in truth
    ]
    add_labels(engine, picked, actor="ana")
    rates = by_people(engine)
    assert rates.audits == 0
    assert isinstance(rates.powered, NoRate)
    assert "labels draw" in rates.powered.reason


def test_a_window_that_no_draw_covers_whole_is_refused(engine: Engine, truth: dict[str, bool]) -> None:
    half = Window(segment=ANSWERS.segment, evaluator=FAITHFULNESS, since=NOON, until=NOON + timedelta(minutes=30))
    add_labels(engine, said_of(drawn(engine, 200, half), truth), actor="ana")
    assert isinstance(by_people(engine).powered, NoRate)
    within = by_people(engine, until=half.until)
    assert isinstance(within.powered, Rate)


def test_most_people_count_with_their_last_word_and_a_tie_is_no_label(engine: Engine, truth: dict[str, bool]) -> None:
    whole = said_of(drawn(engine, TRACES), truth)
    other = [
        Labelled(tenant=one.tenant, trace_id=one.trace_id, evaluator=one.evaluator, label=Label.HALLUCINATED)
        for one in whole
    ]
    add_labels(engine, whole, actor="ana")
    add_labels(engine, whole, actor="bo")
    add_labels(engine, other, actor="cy")
    rates = by_people(engine)
    assert isinstance(rates.powered, Rate)
    assert rates.powered.value == pytest.approx(sum(truth.values()) / TRACES)
    add_labels(engine, other, actor="bo")
    flipped = by_people(engine)
    assert isinstance(flipped.powered, Rate)
    assert flipped.powered.value == 1.0
    add_labels(engine, whole, actor="dee")
    assert by_people(engine).audits == sum(truth.values())


def test_a_label_for_an_answer_that_was_never_judged_is_refused(engine: Engine, truth: dict[str, bool]) -> None:
    good = Labelled(tenant="city", trace_id=next(iter(truth)), evaluator=FAITHFULNESS, label=Label.FAITHFUL)
    bad = Labelled(tenant="city", trace_id="nobody", evaluator=FAITHFULNESS, label=Label.FAITHFUL)
    with pytest.raises(InvalidInput, match="trace_id 'nobody'"):
        add_labels(engine, [good, bad], actor="ana")
    with transaction(engine) as connection:
        assert connection.execute(text("select count(*) from labels")).scalar_one() == 0


Run = Callable[..., Any]


@pytest.fixture
def run(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", postgres_url)
    app = typer.Typer()
    app.callback()(lambda: None)
    labels.register(app)
    return lambda *words: CliRunner().invoke(app, ["labels", *words])


def test_the_commands_go_round(run: Run, engine: Engine, truth: dict[str, bool], tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    drawing = run(
        "draw", "--service", "help-desk", "--tenant", "city", "--hours", "999999", "--count", "5", "--output", str(path)
    )
    assert drawing.exit_code == 0, drawing.output
    assert "drew 5 of 800 answers" in drawing.stderr
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert {key for line in lines for key in line} == {
        *("draw_id", "tenant", "trace_id", "evaluator", "label", "note", "question", "documents", "answer")
    }
    lines[0]["label"], lines[1]["label"], lines[1]["note"] = "faithful", "hallucinated", "says 20, not 12"
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    assert run("add", str(path), "--actor", "ana").stdout == "kept 2 labels; 3 lines have none\n"
    with transaction(engine) as connection:
        rows = connection.execute(text("select label, note, actor from report.label_history order by label")).all()
    assert [tuple(row) for row in rows] == [("faithful", "", "ana"), ("hallucinated", "says 20, not 12", "ana")]


def test_wrong_lines_are_named_and_nothing_is_kept(run: Run, truth: dict[str, bool], tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    good = json.dumps({"tenant": "city", "trace_id": next(iter(truth)), "label": "faithful"})
    path.write_text(f'{good}\n{{"trace_id": "x", "label": "perhaps"}}\nnot json\n', "utf-8")
    failed = run("add", str(path))
    assert isinstance(failed.exception, InvalidInput)
    assert "line 2: label" in str(failed.exception)
    assert "line 3: $: Invalid JSON" in str(failed.exception)
    empty = run("draw", "--service", "nobody")
    assert isinstance(empty.exception, InvalidInput)
