"""docs/sql.md tells the truth: its queries run, and it names every column that a reader will meet."""

import re
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text

from monitor.domain.feedback import Thumb
from monitor.storage.engine import transaction
from monitor.storage.feedback import FeedbackBook
from monitor.storage.ledger import Ledger
from tests.examples.assessments import assessment, dead_letter
from tests.examples.feedback import feedback

GUIDE = Path(__file__).parents[2].joinpath("docs", "sql.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", GUIDE, re.DOTALL)
FUNCTIONS = {"hallucination_rates"}
VIEWS = set(re.findall(r"report\.(\w+)", GUIDE)) - FUNCTIONS


@pytest.fixture
def filled(engine: Engine, ledger: Ledger) -> Engine:
    ledger.record(
        [
            assessment(0, probability=0.9, end=9),
            assessment(1, probability=None),
            assessment(2, probability=None, escalated=True),
            assessment(3, seconds_past_noon=3700),
        ],
        [dead_letter(4)],
    )
    FeedbackBook(engine).record(
        [
            feedback("f-1", trace_id="t-0-0", thumb=Thumb.DOWN, outcome="escalated"),
            feedback("f-2", trace_id="t-0-3", corrected_answer="At nine."),
            feedback("f-3", trace_id="nowhere", comment="What?"),
        ]
    )
    return engine


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: " ".join(query.split())[:60])
def test_every_query_of_the_guide_runs(filled: Engine, query: str) -> None:
    # `:` marks parameters in SQLAlchemy's text, but a cast in Postgres.
    with transaction(filled) as connection:
        connection.exec_driver_sql(query).fetchall()


def test_the_guide_names_every_view_and_column(engine: Engine) -> None:
    found = inspect(engine)
    assert set(found.get_view_names(schema="report")) == VIEWS
    for view in VIEWS - {"accounting_by_partition"}:
        section = next(part for part in GUIDE.split("\n## ") if f"`report.{view}`" in part.splitlines()[0])
        shared = "`tenant` `service` `environment` `topic` `partition` `trace_id` `evaluator` `judge_version`"
        for column in found.get_columns(view, schema="report"):
            assert f"`{column['name']}`" in section + shared, f"{view}.{column['name']}"


def test_the_guide_names_every_function_and_column(engine: Engine) -> None:
    section = next(part for part in GUIDE.split("\n## ") if part.startswith("`report.hallucination_rates("))
    with transaction(engine) as connection:
        known = set(
            connection.execute(
                text("select proname from pg_proc where pronamespace = 'report'::regnamespace")
            ).scalars()
        )
        asked = connection.execute(text("select * from report.hallucination_rates(now(), now())"))
        assert known == FUNCTIONS
        for column in tuple(asked.keys()):
            assert f"`{column}`" in section + "`tenant` `service` `environment` `evaluator` `judge_version`", column


def test_the_accounting_identity_holds_in_sql(filled: Engine) -> None:
    with transaction(filled) as connection:
        row = connection.execute(text("select * from report.accounting")).mappings().one()
        parts = connection.execute(text("select * from report.accounting_by_partition")).mappings().all()
    assert dict(row) == {
        "accepted": 9,
        "verdicts": 2,
        "unjudged": 1,
        "dead_letters": 1,
        "duplicates": 0,
        "in_flight": 5,
        "pending": 1,
        "lost": 0,
    }
    assert [part["accepted"] for part in parts] == [9]


def test_rates_per_hour_add_up_the_minutes(filled: Engine) -> None:
    with transaction(filled) as connection:
        rows = connection.execute(text("select * from report.rates_per_hour order by hour")).mappings().all()
    counts = ("traces", "verdicts", "hallucinated", "rate", "mean_probability", "unjudged", "pending", "escalated")
    assert [[row[name] for name in counts] for row in rows] == [
        [3, 1, 1, 1.0, 0.9, 1, 1, 1],
        [1, 1, 0, 0.0, 0.25, 0, 0, 0],
    ]
