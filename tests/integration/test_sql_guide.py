"""docs/sql.md tells the truth: its queries find what happened, and it names every column that a reader meets."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, inspect, text

from monitor.benchmarks.ledger_questions import guide_questions
from monitor.config import PostgresSettings
from monitor.domain.verdict import FAITHFULNESS, Label
from monitor.storage.engine import create_ledger_engine, transaction
from monitor.storage.labels import Labelled, add_labels
from monitor.storage.ledger import Ledger
from tests.examples.assessments import NOON, TOPIC, VERSION, assessment
from tests.examples.filled import EARLIER, HOUR, NEXT_VERSION, fill
from tests.support.surface import read_surface

PATH = Path(__file__).parents[2] / "docs" / "sql.md"
GUIDE = PATH.read_text(encoding="utf-8")
RECORDED = json.loads(Path(__file__).parents[1].joinpath("data", "sql_surface.json").read_text(encoding="utf-8"))
SECTIONS = {
    name: part
    for part in GUIDE.split("\n## ")
    for name in re.findall(r"`report\.(\w+)", part.splitlines()[0])
    if part.startswith("`report.")
}
QUESTIONS = guide_questions(PATH)
ARGUMENTS = dict.fromkeys(("hallucination_rates", "agreement", "unjudged", "feedback_given"), "now(), now()")
WITHOUT_TENANT = {"version", "accounting", "accounting_by_partition", "dead_letter_history"}
WITHOUT_TENANT |= {"replays", "replay_accounting_by_partition"}
DAY = HOUR.astimezone(UTC).replace(hour=0)
WEEK = (DAY - timedelta(days=DAY.weekday())).date()
ABOUT = pytest.approx

# A list where the query gives an order, a set where it leaves one open.
ANSWERS: dict[str, Any] = {
    "Which surface is this?": [(2,)],
    "May a dashboard that was written for version 1 still be shown?": [(True,)],
    "Is anything lost?": [(11, 1, 0)],
    "Does every record end somewhere?": [(0,)],
    "How many of the records that arrived got a verdict?": [(6, 10, Decimal("0.6"))],
    "Which partition is behind?": [(TOPIC, 0, 1, 1)],
    "Is traffic spread evenly over the partitions?": [(TOPIC, 0, 11, 1)],
    "In which partitions do dead letters lie?": [(TOPIC, 0, 1)],
    "Which part of each service's traffic has a verdict, hour by hour?": [
        (HOUR, "help-desk", 8.0, 5, 0.625),
        (HOUR, "shop", 2.0, 1, 0.5),
    ],
    "Of all traces of the last day, where did those without a verdict fall off?": [
        ("help-desk", 8.0, 0.0, 2, 1, 5),
        ("shop", 2.0, 1.0, 0, 0, 1),
    ],
    "Do coverage and the accounting of the topic agree?": [(9, 9)],
    "Why could traces not be judged in the last day?": {("help-desk", "unparseable", 1), ("help-desk", "too_long", 1)},
    "Which reasons grew from yesterday to today?": {
        ("help-desk", "unparseable", 2, 0),
        ("help-desk", "too_long", 1, 0),
    },
    "Why could traces not be judged this week?": {
        ("help-desk", "unparseable", 1, HOUR),
        ("help-desk", "too_long", 1, HOUR),
    },
    "What waits for the pool, and where?": [("help-desk", "pending", 1)],
    "Which judge version fails most?": {(VERSION, 2)},
    "What do users say of the answers of the last day?": {
        ("help-desk", "faithful", "down", 1),
        ("help-desk", "hallucinated", "down", 1),
    },
    "What share of each hour's traces had no documents to be judged by?": [
        (HOUR, "help-desk", 0, 8, 0.0),
        (HOUR, "shop", 0, 1, 0.0),
    ],
    "What is wrong with the records that cannot be read?": [("not_json", None, 1, NOON)],
    "When did it begin?": [(NOON, "not_json", 2)],
    "Are all dead letters that were counted still kept?": [(1, 1)],
    "What did the service make up today, beside what the documents say?": [
        (trace_id, "At te", "he ", 0.75) for trace_id in ("t-0-0", "t-0-1", "t-0-1", "t-0-2", "t-0-3")
    ],
    "Which documents are misread most often?": [("d", 5, 4, 0.75)],
    "Is the same thing made up again and again?": [("help-desk", "at te", 4)],
    "Which judges fail, and why?": {("gguf", "unparseable", 9), ("screen", "unparseable", 4)},
    "How often does the pool change a verdict, by why it was asked?": [("audit", 2, 1, ABOUT(0.5))],
    "How long do traces wait for the pool?": [("city", ANY, ANY)],
    "What is stuck, and why?": [("city", "t-0-4", "waiting", 2, ANY, "busy")],
    "What does each service cost a day?": [
        (DAY, "help-desk", ABOUT(0.003), 4 * 7 + 3 * 980),
        (DAY, "shop", 0.0, 7),
    ],
    "What does a thousand judgements cost, by tier?": [
        ("edge", 9, 0.0, ABOUT(500)),
        ("pool", 3, ABOUT(1), ABOUT(1500)),
        ("screen", 9, 0.0, ABOUT(2)),
    ],
    "What do we pay for a verdict that has been looked at by the pool?": [("help-desk", ABOUT(0.001)), ("shop", None)],
    "How did each service do, hour by hour?": [
        (EARLIER, "help-desk", 0, None),
        (HOUR, "help-desk", 5, 0.6),
        (HOUR, "shop", 1, 0.0),
    ],
    "How did each service do, day by day?": [
        (EARLIER.astimezone(UTC).date(), "help-desk", 0, 0, None),
        (DAY.date(), "help-desk", 5, 3, 0.6),
        (DAY.date(), "shop", 1, 0, 0.0),
    ],
    "Does the pool soften or sharpen what the local judges say?": [
        ("help-desk", 0.5, Decimal("0.6")),
        ("shop", 0, 0),
    ],
    "How far do the local judges and the pool agree?": [("help-desk", VERSION, 2, 0.5, 0.0)],
    "Is a new version of the judges stricter than the one before?": [
        ("help-desk", VERSION, NEXT_VERSION, 2, 0, 1, 0.0)
    ],
    "Do people agree with the verdicts less than they did, week by week?": {
        (WEEK, "help-desk", 2, 0.5, 0.0),
        (WEEK, "help-desk", 2, 1.0, None),
    },
    "On which answers do they differ?": [
        ("t-0-0", "people", "faithful", "hallucinated"),
        ("t-0-2", "pool", "faithful", "hallucinated"),
        ("t-0-0", "versions", "faithful", "hallucinated"),
    ],
    "How far do the local judges and the pool agree on random audits alone?": [("help-desk", 2, ABOUT(0.5))],
    "Which made-up answers did only people find, and what did they say of them?": [("t-0-0", "bo", "nine, not ten")],
    "Who has labelled how much, and how often did they find the verdict right?": {
        ("ana", 2, 1),
        ("bo", 2, 0.5),
    },
    "On which answers do people differ among themselves?": [],
}


@pytest.fixture(scope="module")
def filled(empty_database: Callable[..., str], migrated_template: str) -> Iterator[Engine]:
    """One ledger for all questions: nothing here writes to it."""
    url = empty_database(template=migrated_template)
    engine = create_ledger_engine(PostgresSettings(url=SecretStr(url)), application_name="test")
    fill(engine)
    yield engine
    engine.dispose()


def test_all_expected_answers_are_to_questions_of_the_guide() -> None:
    assert [question for question in ANSWERS if question not in QUESTIONS] == []


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_of_the_guide_is_answered(filled: Engine, question: str) -> None:
    # `:` marks parameters in SQLAlchemy's text, but a cast in Postgres.
    with transaction(filled) as connection:
        rows = [tuple(row) for row in connection.exec_driver_sql(QUESTIONS[question]).fetchall()]
    expected = ANSWERS.get(question)
    if isinstance(expected, set):
        assert set(rows) == expected
    elif expected is not None:
        assert rows == expected


def documented(name: str) -> list[str]:
    """The columns that a view's or function's section lists; of alternatives (`minute` / `hour`) its own."""
    section = SECTIONS[name]
    siblings = re.findall(r"`report\.(\w+)", section.splitlines()[0])
    table = section.split("| column | meaning |\n|---|---|\n")[1].split("\n\n")[0]
    columns: list[str] = []
    for row in table.splitlines():
        cell = row.split(" | ")[0]
        names = re.findall(r"`(\w+)`", cell)
        columns += [names[siblings.index(name)]] if "` / `" in cell else names
    return columns


def test_the_guide_lists_every_view_with_exactly_its_columns(engine: Engine) -> None:
    found = inspect(engine)
    views = found.get_view_names(schema="report")
    assert set(views) == set(SECTIONS) - set(ARGUMENTS)
    for view in views:
        columns = [column["name"] for column in found.get_columns(view, schema="report")]
        assert documented(view) == columns, view
        assert ("tenant" in columns) == (view not in WITHOUT_TENANT), view


def test_the_guide_lists_every_function_with_exactly_its_columns(engine: Engine) -> None:
    with transaction(engine) as connection:
        known = connection.execute(
            text("select proname from pg_proc where pronamespace = 'report'::regnamespace")
        ).scalars()
        assert set(known) == set(ARGUMENTS)
        for name, arguments in ARGUMENTS.items():
            asked = connection.execute(text(f"select * from report.{name}({arguments})"))
            assert documented(name) == list(asked.keys()), name


@pytest.mark.parametrize("name", SECTIONS)
def test_each_view_and_function_has_three_questions(name: str) -> None:
    queries = re.findall(r"```sql\n(.*?)```", SECTIONS[name], re.DOTALL)
    assert sum(bool(re.search(rf"report\.{name}\b", query)) for query in queries) >= 3


def test_the_accounting_identity_holds_in_sql(filled: Engine) -> None:
    with transaction(filled) as connection:
        row = connection.execute(text("select * from report.accounting")).mappings().one()
        parts = connection.execute(text("select * from report.accounting_by_partition")).mappings().all()
    assert dict(row) == {
        "accepted": 11,
        "verdicts": 6,
        "unjudged": 2,
        "dead_letters": 1,
        "duplicates": 1,
        "in_flight": 1,
        "pending": 1,
        "lost": 0,
    }
    assert [part["accepted"] for part in parts] == [11]


def test_hours_and_days_add_up_the_minutes(filled: Engine) -> None:
    counted = "select sum(traces), sum(hallucinated), sum(first_verdicts), sum(estimated_traces) from report."
    with transaction(filled) as connection:
        sums = [
            tuple(connection.exec_driver_sql(f"{counted}rates_per_{period}").one())
            for period in ("minute", "hour", "day")
        ]
    assert sums == [(9, 3, 5, 10.0)] * 3


def test_what_is_asked_for_a_time_is_what_the_views_say(filled: Engine) -> None:
    window = "now() - interval '1 day', now() + interval '1 hour'"
    pairs = {
        f"report.unjudged({window})": "select * from report.unjudged_per_hour",
        f"report.feedback_given({window})": "select * from report.feedback",
    }
    with transaction(filled) as connection:
        for function, view in pairs.items():
            found = [
                set(map(str, connection.exec_driver_sql(f"select * from {name}"))) for name in (function, f"({view})")
            ]
            assert found[0] == found[1] != set(), function


def test_every_escalation_has_an_end_or_is_open(filled: Engine) -> None:
    query = "select trace_id, state, outcome, pool_probability, first_label, label from report.escalation_history"
    with transaction(filled) as connection:
        rows = [tuple(row) for row in connection.exec_driver_sql(f"{query} order by trace_id").fetchall()]
    assert rows == [
        ("t-0-2", "done", "reversed", 0.9, "faithful", "hallucinated"),
        ("t-0-3", "done", "confirmed", 0.95, "hallucinated", "hallucinated"),
        ("t-0-4", "waiting", None, None, None, None),
        ("t-0-6", "given_up", "given_up", None, None, None),
        ("t-0-9", "done", "decided", 0.1, None, "faithful"),
    ]


def test_spans_outlive_the_texts_that_they_are_of(engine: Engine) -> None:
    fill(engine)
    with transaction(engine) as connection:
        connection.execute(text("delete from payloads"))
        row = connection.execute(text("select * from report.unsupported_spans limit 1")).mappings().one()
    assert (row["span_start"], row["span_end"], row["span_text"], row["support_text"]) == (0, 5, None, None)


def test_a_day_that_nobody_asks_for_is_not_read(filled: Engine) -> None:
    never = "explain (analyze, timing off, summary off) select * from report.{} where {} < '2001-01-01'"
    with transaction(filled) as connection:
        plan = [line for (line,) in connection.exec_driver_sql(never.format("unjudged_per_hour", "hour"))]
        scans = [line for line in plan if "verdict_rows" in line and " on " in line]
        assert scans
        assert [line for line in scans if "never executed" not in line] == []
        plan = [line for (line,) in connection.exec_driver_sql(never.format("costs_per_day", "day"))]
        assert [line for line in plan if "judgement_rows" in line or "verdict_rows" in line] == []


def test_kappa_is_cohens(engine: Engine) -> None:
    # Cohen's own example in another guise: 20 both, 15 neither, 5 and 10 one alone, of 50.
    numbers = range(1, 51)
    Ledger(engine).record([assessment(number, probability=0.9 if number <= 25 else 0.1) for number in numbers])
    said = [
        Labelled(
            tenant="city",
            trace_id=f"t-0-{number}",
            evaluator=FAITHFULNESS,
            label=Label.HALLUCINATED if number <= 20 or number > 40 else Label.FAITHFUL,
        )
        for number in numbers
    ]
    add_labels(engine, said, actor="ana")
    with transaction(engine) as connection:
        row = connection.exec_driver_sql("select * from report.agreement('2026-03-01Z', '2026-03-02Z')").one()
    assert (row.kind, row.a, row.b) == ("people", VERSION, "people")
    assert tuple(row)[8:13] == (50, 20, 15, 5, 10)
    assert row.agreement == ABOUT(0.7)
    assert row.kappa == ABOUT(0.4)


def test_agreement_counts_the_pairs(filled: Engine) -> None:
    window = "now() - interval '30 days', now()"
    by = "tenant, service, environment, evaluator, kind, a, b"
    counted = f"""
        select {by}, count(*), count(*) filter (where a_label = 'hallucinated' and b_label = 'hallucinated'),
            count(*) filter (where a_label = 'faithful' and b_label = 'faithful')
        from report.agreement_pairs group by {by}
    """
    with transaction(filled) as connection:
        found = connection.exec_driver_sql(
            f"select {by}, n, both_hallucinated, both_faithful from report.agreement({window})"
        ).all()
        assert set(map(tuple, found)) == set(map(tuple, connection.exec_driver_sql(counted).all()))
    assert {row.kind for row in found} == {"people", "pool", "versions"}


def test_what_was_promised_stays(engine: Engine) -> None:
    # Recorded once for each version of the surface; a version that is no longer compatible is taken out.
    with transaction(engine) as connection:
        now = read_surface(connection)
        version, oldest = connection.execute(text("select version, compatible_with from report.version")).one()
    assert sorted(map(int, RECORDED)) == list(range(oldest, version + 1))
    for recorded in RECORDED.values():
        for name, parts in recorded.items():
            assert now[name][: len(parts)] == parts, name
