"""Slices of the traffic: counted with the verdicts, asked when a rate rises, on a real Postgres."""

import json
import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from sqlalchemy import Engine, select, update
from typer.testing import CliRunner

from monitor.cli import drift
from monitor.domain.alert import Alert, AlertState
from monitor.domain.errors import InvalidInput
from monitor.domain.explanation import Explanation
from monitor.domain.trace import Slice
from monitor.services.explaining import Explaining
from monitor.storage.alerts import change_state, find_alerts, raise_alert
from monitor.storage.engine import transaction
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.segment_keys import SegmentKey
from monitor.storage.slices import Change, clearest_examples, count_slices
from monitor.storage.tables import alert_transitions, outbox, slice_rollups
from monitor.wire import alert_to_json
from tests.examples.alerts import alert, subscribed
from tests.examples.assessments import NOON, VERSION, assessment, trace
from tests.integration.test_alerting import PER_MINUTE, watch

KEY = SegmentKey(segment=trace("any").segment, evaluator="faithfulness", judge_version=VERSION)


@pytest.fixture
def slicing(engine: Engine) -> Ledger:
    return Ledger(engine, dimensions=["prompt_version", "language"])


def counted(engine: Engine) -> dict[tuple[str, str, int], tuple[int, int]]:
    """Totals and hallucinated by dimension, value and minute past noon."""
    with transaction(engine) as connection:
        return {
            (row.dimension, row.value, round((row.minute - NOON) / timedelta(minutes=1))): (
                row.first_total,
                row.first_hallucinated,
            )
            for row in connection.execute(select(slice_rollups))
        }


def test_first_verdicts_are_counted_by_columns_and_tags(engine: Engine, slicing: Ledger) -> None:
    slicing.record(
        [
            assessment(0, probability=0.9, prompt_version="v7", tags={"language": "de"}),
            assessment(1, probability=0.1, prompt_version="v7", tags={"language": "", "other": "x"}),
            assessment(2, probability=None, prompt_version="v7"),
            assessment(3, probability=0.1, tags={"language": "de"}, seconds_past_noon=61),
        ]
    )
    slicing.record([assessment(4, probability=0.9, prompt_version="v7", generator_model="m")])
    assert counted(engine) == {
        ("prompt_version", "v7", 0): (3, 2),
        ("language", "de", 0): (1, 1),
        ("language", "de", 1): (1, 0),
    }
    assert recount(engine) == []


def test_redelivered_and_duplicate_records_are_counted_once(engine: Engine, slicing: Ledger) -> None:
    said = [assessment(n, trace_id=f"t-{n % 3}", probability=0.9, prompt_version="v7") for n in range(5)]
    for _ in range(2):
        slicing.record(said)
    assert counted(engine) == {("prompt_version", "v7", 0): (3, 3)}
    assert recount(engine) == []


def test_long_and_hostile_values_are_cut_and_kept_apart(engine: Engine, slicing: Ledger) -> None:
    hostile = "'; drop table slice_rollups; --\x00\ud800"
    slicing.record(
        [
            assessment(0, prompt_version="x" * 5000),
            assessment(1, prompt_version=hostile),
            assessment(2, prompt_version="x" * 201),
        ]
    )
    values = {value for _, value, _ in counted(engine)}
    assert values == {"x" * 200, "'; drop table slice_rollups; --\ufffd?"}
    assert recount(engine) == []


def test_a_recount_sees_a_wrong_slice(engine: Engine, slicing: Ledger) -> None:
    slicing.record([assessment(0, prompt_version="v7")])
    with transaction(engine) as connection:
        connection.execute(update(slice_rollups).values(first_total=5))
    (difference,) = recount(engine)
    assert difference.table == "slice_rollups"
    assert difference.stored is not None
    assert difference.counted is not None
    assert (difference.stored["first_total"], difference.counted["first_total"]) == (5, 1)


def test_counts_before_and_after_a_change(engine: Engine, slicing: Ledger) -> None:
    slicing.record(
        [
            assessment(
                n,
                probability=0.9 if n % 2 else 0.1,
                prompt_version="v7" if n > 5 else "v6",
                seconds_past_noon=60 * n,
            )
            for n in range(10)
        ]
    )
    minute = timedelta(minutes=1)
    change = Change(key=KEY, since=NOON + minute, at=NOON + 6 * minute, until=NOON + 8 * minute)
    found = count_slices(engine, change)
    whole = found.whole
    assert (whole.before, whole.hallucinated_before, whole.after, whole.hallucinated_after) == (5, 3, 3, 1)
    assert set(found.slices) == {("prompt_version", "v6"), ("prompt_version", "v7")}
    new = found.slices["prompt_version", "v7"]
    assert (new.before, new.after, new.hallucinated_after) == (0, 3, 1)


def test_the_clearest_examples_come_first_and_of_the_slice_only(engine: Engine, slicing: Ledger) -> None:
    chances = [0.6, 0.99, 0.7, 0.2, 0.98]
    slicing.record(
        [
            assessment(n, probability=chance, prompt_version="v7" if n != 1 else "v6", tags={"language": "de"})
            for n, chance in enumerate(chances)
        ]
    )
    change = Change(key=KEY, since=NOON - timedelta(days=1), at=NOON, until=NOON)
    assert [e.probability for e in clearest_examples(engine, change)] == [0.99, 0.98, 0.7, 0.6]
    of_v7 = clearest_examples(engine, change, part=Slice(dimension="prompt_version", value="v7"), limit=2)
    assert [e.trace_id for e in of_v7] == ["t-0-4", "t-0-2"]
    assert len(clearest_examples(engine, change, part=Slice(dimension="language", value="de"))) == 4
    assert clearest_examples(engine, change, part=Slice(dimension="language", value="fr")) == ()


def incident(*, culprit: str | None) -> list[Any]:
    """An hour at 10 %, then half an hour in which the culprit's answers, half of all, are wrong half the time."""
    draw = random.Random(7)
    made = []
    for n in range(90 * PER_MINUTE):
        version, language = draw.choice(("v6", "v7")), draw.choice(("en", "de", "fr"))
        rate = 0.1
        if n >= 60 * PER_MINUTE and culprit in {version, "all"}:
            rate = 0.5
        made.append(
            assessment(
                n,
                probability=0.9 if draw.random() < rate else 0.1,
                seconds_past_noon=n * 60 / PER_MINUTE,
                prompt_version=version,
                tags={"language": language},
            )
        )
    return [*made, assessment(len(made), probability=0.1, seconds_past_noon=90 * 60)]


def the_alert(engine: Engine, ledger: Ledger, *, culprit: str) -> Alert:
    ledger.record(incident(culprit=culprit))
    # The slice may be seen before the whole: one alert all the same.
    *_, alert = watch(engine).step().alerts
    assert [found.alert_id for found in find_alerts(engine)] == [alert.alert_id]
    return alert


def test_an_alert_names_the_prompt_version_that_rose(engine: Engine, slicing: Ledger) -> None:
    alert = the_alert(engine, slicing, culprit="v7")
    (cause,) = alert.explanation.causes
    assert (cause.dimension, cause.value) == ("prompt_version", "v7")
    assert cause.after.value > 0.35
    assert cause.low > 0.1
    assert cause.explains > 0.8
    examples = alert.explanation.examples
    assert 1 <= len(examples) <= 10
    assert all(example.event_time >= alert.alarm.change_at for example in examples)


def test_where_all_rose_alike_no_slice_is_named(engine: Engine, slicing: Ledger) -> None:
    alert = the_alert(engine, slicing, culprit="all")
    assert alert.explanation.causes == ()
    assert alert.explanation.examples


def test_what_too_few_verdicts_leave_open_a_later_look_finds_and_tells_once(engine: Engine, slicing: Ledger) -> None:
    said = incident(culprit="v7")
    soon = 61 * PER_MINUTE
    slicing.record(said[:soon])
    raised = replace(alert("a-1"), explanation=Explanation(looks=1))
    known = raised.alarm
    raised = replace(raised, alarm=replace(known, change_at=NOON + timedelta(minutes=60), delay_verdicts=PER_MINUTE))
    subscribed(engine, url="https://example.org/hook")
    of_v7 = subscribed(engine, url="https://example.org/v7", cause="prompt_version=v7")
    subscribed(engine, url="https://example.org/v6", cause="prompt_version=v6")
    with transaction(engine) as connection:
        raise_alert(connection, raised)
    looking = Explaining(engine, clock=lambda: NOON)
    assert looking.step() == []
    assert looks(engine) == 1
    slicing.record(said[soon:])
    (explained,) = looking.step()
    assert [cause.value for cause in explained.explanation.causes] == ["v7"]
    assert looking.step() == []
    assert looks(engine) == 5, "once, when verdicts have doubled four times"
    with transaction(engine) as connection:
        sent = connection.execute(
            select(outbox.c["channel", "state", "payload", "subscription_id"]).order_by(outbox.c.id)
        ).all()
        (*_, note) = connection.execute(select(alert_transitions.c.note).order_by(alert_transitions.c.id)).scalars()
    assert note == "explained by prompt_version = v7"
    # Its server had not answered yet: it hears of the alert once, with what is known now.
    assert [(row.state, bool(row.payload["explanation"]["causes"])) for row in sent if row.channel == "webhook"] == [
        ("superseded", False),
        ("waiting", True),
        ("waiting", True),
    ]
    assert [row.state for row in sent if row.subscription_id == of_v7.subscription_id] == ["waiting"]
    assert len({row.subscription_id for row in sent if row.subscription_id}) == 2
    assert [row.state for row in sent if row.channel == "kafka"] == ["waiting", "waiting"]


def test_a_look_that_finds_nothing_is_counted_and_the_next_one_waits_for_more(engine: Engine, slicing: Ledger) -> None:
    the_alert(engine, slicing, culprit="all")
    counts = []
    for _ in range(6):
        assert Explaining(engine, clock=lambda: NOON).step() == []
        counts.append(looks(engine))
    assert counts[0] > 1
    assert counts == [counts[0]] * 6


def test_a_resolved_alert_is_not_looked_at_again(engine: Engine, slicing: Ledger) -> None:
    raised = the_alert(engine, slicing, culprit="all")
    change_state(engine, raised.alert_id, AlertState.RESOLVED, at=NOON, actor="me")
    before = looks(engine)
    assert Explaining(engine, clock=lambda: NOON).step() == []
    assert looks(engine) == before


def looks(engine: Engine) -> int:
    (found,) = find_alerts(engine)
    return found.explanation.looks


@pytest.fixture
def app(postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> typer.Typer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", postgres_url)
    app = typer.Typer()
    drift.register(app)
    return app


def invoke(app: typer.Typer, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["drift", "explain", *arguments], env={"COLUMNS": "200"})


def test_explain_shows_slice_course_and_answers(engine: Engine, slicing: Ledger, app: typer.Typer) -> None:
    alert = the_alert(engine, slicing, culprit="v7")
    shown = invoke(app, alert.alert_id).stdout
    assert "prompt_version = v7" in shown
    assert "◀ change" in shown
    assert "answered: At ten, on the moon." in shown
    assert "language" not in shown
    more, known = (json.loads(invoke(app, alert.alert_id, "--json", *flags).stdout) for flags in ([], ["--as-raised"]))
    assert known["explanation"] == alert_to_json(alert)["explanation"]
    (cause,) = more["explanation"]["causes"]
    assert cause["after"]["n"] > alert.explanation.causes[0].after.n
    assert len(more["course"]) == 22
    assert sum(one["total"] for one in more["course"]) == 21 * 3 * PER_MINUTE + PER_MINUTE + 1
    assert len(more["excerpts"]) == len(more["explanation"]["examples"]) == 10


def test_explain_of_an_unknown_alert_says_where_to_look(app: typer.Typer, engine: Engine) -> None:
    error = invoke(app, "nobody").exception
    assert isinstance(error, InvalidInput)
    assert "alerts list" in str(error)


def test_hostile_answers_do_nothing_to_the_terminal(engine: Engine, slicing: Ledger, app: typer.Typer) -> None:
    slicing.record(
        [replace(one, trace=replace(one.trace, answer="\x1b[2J[bold]gone[/]\u202e")) for one in incident(culprit="v7")]
    )
    *_, alert = watch(engine).step().alerts
    shown = invoke(app, alert.alert_id).stdout
    assert "[2J[bold]gone[/]" in shown
    assert not {"\x1b", "\u202e"} & set(shown)
