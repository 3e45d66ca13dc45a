"""`groundwatch bench ledger` on a ledger of two thousand verdicts: all figures are there, and add up."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from monitor.benchmarks.ledger_questions import guide_questions, saved_questions
from monitor.cli.main import app
from monitor.domain.errors import InvalidInput
from monitor.storage.engine import transaction
from monitor.storage.ledger import Ledger
from monitor.storage.measuring import give_feedback, grow_old
from monitor.storage.retention import Keeping, expire
from tests.examples.assessments import assessment

GUIDE = "How many?\n\n```sql\nselect count(*) from report.verdict_history;\n```\n"


def test_each_size_has_its_figures(tmp_path: Path) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text(GUIDE)
    arguments = "bench ledger --verdicts 2000 --verdicts 1000 --days 2 --age 3 --batch 20 --repeats 2 --json --guide"
    result = CliRunner().invoke(app, [*arguments.split(), str(guide)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert [stage["verdicts"] for stage in said["stages"]] == [1000, 2000]
    assert said["age_days"] == 3
    for stage in said["stages"]:
        assert stage["rate"] > stage["whole_rate"] > 0
        assert stage["bytes_per_verdict"] > 0
        asked = {one["name"]: one for one in stage["asked"]}
        assert set(asked) == {*saved_questions(), "How many?"}
        assert asked["How many?"]["guide"]
        assert not asked["accounting"]["guide"]
        assert all(one["p95"] >= one["p50"] > 0 for one in asked.values())
    assert asked["feedback-and-verdicts"]["rows"] > 0
    assert said["dropped"]["seconds"] > 0
    assert said["dropped"]["verdicts"] > 0


def test_a_guide_needs_a_question_before_each_query(tmp_path: Path) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text(GUIDE + "\nNo question.\n\n```sql\nselect 1;\n```\n")
    with pytest.raises(InvalidInput, match="a question of its own"):
        guide_questions(guide)
    guide.write_text(GUIDE)
    assert guide_questions(guide) == {"How many?": "select count(*) from report.verdict_history;\n"}
    with pytest.raises(InvalidInput, match=r"none\.md"):
        guide_questions(tmp_path / "none.md")


def test_an_old_ledger_takes_verdicts_and_lets_its_days_go(engine: Engine) -> None:
    today = datetime.now(UTC).date()
    grow_old(engine, until=today, verdict_days=500, payload_days=2)
    assert days(engine, "verdict_rows") == [today - timedelta(days=back) for back in range(500, 0, -1)]
    assert days(engine, "payloads") == [today - timedelta(days=2), today - timedelta(days=1)]
    past = (datetime.now(UTC) - timedelta(hours=1) - datetime(2026, 3, 1, 12, tzinfo=UTC)).total_seconds()
    written = Ledger(engine).record([assessment(number, seconds_past_noon=past) for number in range(1000)])
    assert written.verdicts == 1000
    give_feedback(engine)
    give_feedback(engine)
    with transaction(engine) as connection:
        assert connection.scalar(text("select count(*) from report.feedback where label is not null")) == 2
    kept = {"verdicts": Keeping(days=400), "payloads": Keeping(days=1)}
    gone = expire(engine, kept, now=datetime.now(UTC))
    assert gone is not None
    assert days(engine, "judgement_rows")[0] == today - timedelta(days=400)
    assert days(engine, "payloads")[0] == today - timedelta(days=1)


def days(engine: Engine, table: str) -> list[date]:
    with transaction(engine) as connection:
        names = connection.scalars(
            text(
                "select inhrelid::regclass::text from pg_inherits where inhparent = cast(:table as regclass)"
                " and inhrelid::regclass::text ~ '_[0-9]+$' order by 1"
            ),
            {"table": table},
        )
        return [datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC).date() for name in names]
