"""Each migration since 0017 on a ledger with data: nothing that the release before still uses goes, and no data do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from monitor.storage.engine import transaction
from monitor.storage.escalations import EscalationQueue
from monitor.storage.feedback import FeedbackBook
from monitor.storage.ledger import Ledger
from monitor.storage.migrate import check, downgrade, upgrade
from monitor.storage.recount import recount
from monitor.storage.weighing import weigh_rollups
from tests.examples.assessments import NOON, POOL, assessment, dead_letter, judgement, verdict
from tests.examples.feedback import feedback

FIRST = 18
VERSIONS = Path(__file__).parents[2] / "migrations" / "versions"
REVISIONS = sorted(path.name[:4] for path in VERSIONS.glob("[0-9]*.py") if int(path.name[:4]) >= FIRST)

# Tables of which an index is built while writers wait, unless it is built concurrently.
BIG = "verdicts|judgements|traces|receipts|slice_rollups|rollups|verdict_rows|judgement_rows|payloads|otel_traces"
VOLATILE = r"now\(|current_timestamp|clock_timestamp|random|gen_random_uuid|nextval|statement_timestamp"
REFUSED = {
    "drops a table": r"\bdrop table\b",
    # What functions of `report` read is made anew after each migration, in its transaction, and promised to nobody.
    "drops a view": r"\bdrop (materialized )?view (?!report_parts\.)",
    "drops a column": r"\balter table\b.*\bdrop (column|constraint)\b",
    "renames": r"\balter (table|view|index|function|schema)\b.*\brename\b",
    "changes a type": r"\balter table\b.*\balter (column )?\S+ (set data )?type\b",
    "forbids null": r"\balter table\b.*\balter (column )?\S+ set not null\b",
    "rewrites a table for a default": rf"\balter table\b.*\badd (column )?.*\bdefault\b.*({VOLATILE})",
    "adds a column that must be filled": r"\balter table\b.*\badd column (?!.*\bdefault\b).*\bnot null\b",
    "validates a constraint at once": r"\balter table\b.*\badd constraint\b(?!.*\bnot valid\b)(?!.*\busing index\b)",
    "keeps writers out while it indexes": rf"\bcreate (unique )?index (?!concurrently)\S+ on (only )?({BIG})\b",
    "rewrites rows": r"^\s*(update|delete from|truncate)\b(?!.*\balembic_version\b)",
}
"""What a migration may do only with a reason: the release before is still at work, and so are its writers."""

ALLOWED: dict[tuple[str, str], str] = {
    (
        "0024",
        "keeps writers out while it indexes",
    ): "BRIN, of a new column: a narrow table is read once",
}


def refusals(statement: str) -> set[str]:
    flat = " ".join(re.sub(r"--[^\n]*", "", statement).split()).lower()
    # What a function will do when it is called is not done now.
    flat = re.sub(r"\$(\w*)\$.*?\$\1\$", "", flat)
    return {name for name, pattern in REFUSED.items() if re.search(pattern, flat)}


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("DROP TABLE verdicts", "drops a table"),
        ("drop view report.accounting", "drops a view"),
        ("ALTER TABLE rollups DROP COLUMN traces", "drops a column"),
        ("ALTER TABLE rollups RENAME traces TO all_traces", "renames"),
        ("ALTER TABLE rollups ALTER COLUMN traces TYPE NUMERIC", "changes a type"),
        ("ALTER TABLE verdicts ALTER COLUMN reason SET NOT NULL", "forbids null"),
        ("ALTER TABLE verdicts ADD COLUMN at TIMESTAMP DEFAULT now() NOT NULL", "rewrites a table for a default"),
        ("ALTER TABLE verdicts ADD COLUMN x TEXT NOT NULL", "adds a column that must be filled"),
        ("alter table verdicts add constraint c check (x > 0)", "validates a constraint at once"),
        ("CREATE INDEX ix_a ON verdicts (event_time)", "keeps writers out while it indexes"),
        ("update rollups set traces = 0", "rewrites rows"),
    ],
)
def test_what_would_break_the_release_before_is_seen(statement: str, name: str) -> None:
    assert name in refusals(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE a (b TEXT NOT NULL)",
        "ALTER TABLE rollups ADD COLUMN n BIGINT DEFAULT 0 NOT NULL",
        "ALTER TABLE rollups ADD COLUMN at TIMESTAMP WITH TIME ZONE",
        "CREATE INDEX CONCURRENTLY ix_a ON verdicts (event_time)",
        "CREATE INDEX ix_a ON subscriptions (tenant)",
        "alter table verdicts add constraint c check (x > 0) not valid",
        "create function f() returns void language sql as $$ delete from verdicts $$",
        "UPDATE alembic_version SET version_num='0017'",
    ],
)
def test_what_only_adds_is_let_through(statement: str) -> None:
    assert refusals(statement) == set()


def filled(engine: Engine) -> None:
    Ledger(engine).record(
        [
            assessment(0, probability=0.9, escalated=True, chance=0.5),
            assessment(1, probability=None),
            assessment(2, seconds_past_noon=90, sampling_probability=0.1, otel_trace_id="0" * 31 + "1"),
        ],
        [dead_letter(3)],
    )
    (escalation,) = EscalationQueue(engine).claim(1, lease_seconds=60)
    assert EscalationQueue(engine).complete(
        escalation, judgement(POOL, probability=0.1), verdict(0.1, by=POOL), at=NOON + timedelta(minutes=5)
    )
    FeedbackBook(engine).record([feedback("f-1", trace_id="t-0-0")])


def reports(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """All that people read: each view, and the rates of noon."""
    with transaction(engine) as connection:
        names = connection.execute(text("select viewname from pg_views where schemaname = 'report' order by 1"))
        questions = {name: f"select * from report.{name}" for (name,) in names}
        questions["rates"] = "select * from report.hallucination_rates('2026-03-01 12:00Z', '2026-03-01 12:01:30.5Z')"
        return {
            name: sorted((dict(row) for row in connection.execute(text(question)).mappings()), key=repr)
            for name, question in questions.items()
        }


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is sent to any database meanwhile."""
    sent: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", keep)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", keep)


def before(revision: str, url: str) -> str:
    """The revision that it follows, in the order of the migrations."""
    downgrade(url, "0017")
    order = ["0017", *check(url).pending]
    return order[order.index(revision) - 1]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_migration_only_adds_and_data_outlive_it_both_ways(postgres_url: str, engine: Engine, revision: str) -> None:
    last = before(revision, postgres_url)
    upgrade(postgres_url)
    filled(engine)
    said = reports(engine)
    assert said["rates"]
    downgrade(postgres_url, last)
    with statements() as sent:
        upgrade(postgres_url, revision)
    refused = {name for statement in sent for name in refusals(statement)}
    assert {name for name in refused if (revision, name) not in ALLOWED} == set()
    assert {name for of, name in ALLOWED if of == revision} <= refused, "allowed, and not needed"
    assert upgrade(postgres_url).up_to_date
    engine.dispose()
    assert reports(engine) == said
    assert Ledger(engine).record([assessment(0), assessment(7, probability=0.9, seconds_past_noon=3)]).verdicts == 1
    more = reports(engine)
    downgrade(postgres_url, last)
    assert upgrade(postgres_url).up_to_date
    engine.dispose()
    assert reports(engine) == more != said
    weigh_rollups(engine)
    assert recount(engine) == []
