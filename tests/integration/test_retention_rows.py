"""What leaves with rows of another kind: texts of feedback and notes, finished escalations, ids, dead letters."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from monitor.domain.verdict import FAITHFULNESS, Assessment, Label
from monitor.storage.accounting import accounting
from monitor.storage.engine import transaction
from monitor.storage.escalations import EscalationQueue
from monitor.storage.expirations import Keeping
from monitor.storage.feedback import FeedbackBook
from monitor.storage.labels import Labelled, add_labels
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.retention import Expired, expire
from monitor.storage.retention_rows import LEAVING
from tests.examples.assessments import NOON, POOL, assessment, dead_letter, judgement, verdict
from tests.examples.feedback import feedback

DAY = timedelta(days=1)
NOW = NOON + 10 * DAY
KEEP_TEXTS = {"payloads": Keeping(days=3, tenants={"archive": 20})}
KEEP_NOTHING = {**KEEP_TEXTS, "verdicts": Keeping(days=5, tenants={"archive": 20}), "dead_letters": Keeping(days=5)}


def said(offset: int, *, days: float, tenant: str = "city", **changes: Any) -> Assessment:
    made = assessment(offset, tenant=tenant, **changes)
    return replace(made, trace=replace(made.trace, event_time=NOON + days * DAY))


def ask(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with transaction(engine) as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def at_all(gone: Expired | None) -> dict[str, int]:
    assert gone is not None
    return {name: count for name, count in gone.rows.items() if count}


def left(gone: Expired | None) -> dict[str, int]:
    """Of tables that have no days."""
    return {name: count for name, count in at_all(gone).items() if name in {one.name for one in LEAVING}}


@pytest.fixture
def book(engine: Engine) -> FeedbackBook:
    return FeedbackBook(engine)


def given(name: str, days: float, **changes: Any) -> Any:
    return replace(feedback(name, trace_id="t-0-0", **changes), time=NOON + days * DAY)


TEXTS = "select feedback_id, comment, corrected_answer from feedback order by 1"


def test_texts_of_feedback_go_with_the_answers(engine: Engine, book: FeedbackBook) -> None:
    book.record(
        [
            given("a-old", 0, comment="Wrong!", corrected_answer="At nine."),
            given("b-old", 0, comment="Hm."),
            given("c-young", 8, comment="Mine."),
            given("d-archive", 0, comment="Kept.", tenant="archive"),
        ]
    )
    before = ask(engine, "select count(*) filter (where corrected_answer is not null) from feedback")
    assert left(expire(engine, KEEP_TEXTS, now=NOW, dry_run=True)) == {"feedback_texts": 2}
    assert left(expire(engine, KEEP_TEXTS, now=NOW)) == {"feedback_texts": 2}
    after = [("a-old", "", ""), ("b-old", "", None), ("c-young", "Mine.", None), ("d-archive", "Kept.", None)]
    assert ask(engine, TEXTS) == after
    assert ask(engine, "select count(*) filter (where corrected_answer is not null) from feedback") == before
    assert left(expire(engine, KEEP_TEXTS, now=NOW)) == {}
    assert left(expire(engine, KEEP_NOTHING, now=NOW)) == {"feedback": 2}
    assert [name for name, *_ in ask(engine, TEXTS)] == ["c-young", "d-archive"]


def test_notes_of_labels_go_with_the_answers_and_labels_stay(engine: Engine, ledger: Ledger) -> None:
    ledger.record([said(0, days=0), said(1, days=0)])
    notes = [
        Labelled(tenant="city", trace_id=f"t-0-{n}", evaluator=FAITHFULNESS, label=Label.FAITHFUL, note="She said so.")
        for n in range(2)
    ]
    add_labels(engine, notes, actor="ana")
    set_time = text("update labels set labelled_at = :at where trace_id = 't-0-0'")
    with transaction(engine) as connection:
        connection.execute(set_time, {"at": NOON})
    assert left(expire(engine, KEEP_TEXTS, now=NOW)) == {"label_notes": 1}
    assert ask(engine, "select label, note from labels order by trace_id") == [
        ("faithful", ""),
        ("faithful", "She said so."),
    ]


def test_escalations_go_with_the_verdicts(engine: Engine, ledger: Ledger) -> None:
    ledger.record([said(n, days=days, escalated=True) for n, days in enumerate((0, 0, 9))])
    queue = EscalationQueue(engine)
    for one in queue.claim(2, lease_seconds=60):
        assert queue.complete(one, judgement(POOL, probability=0.1), verdict(0.1, by=POOL), at=NOW)
    assert left(expire(engine, KEEP_NOTHING, now=NOW, dry_run=True)) == {"escalations": 2}
    assert left(expire(engine, KEEP_NOTHING, now=NOW)) == {"escalations": 2}
    assert ask(engine, "select trace_id, state from escalations") == [("t-0-2", "waiting")]
    assert recount(engine) == []


def test_ids_go_with_the_verdicts(engine: Engine, ledger: Ledger) -> None:
    otel = "0" * 31
    first = [said(n, days=days, otel_trace_id=f"{otel}{n}") for n, days in enumerate((0, 9))]
    again = [replace(one, origin=replace(one.origin, offset=10 + n)) for n, one in enumerate(first)]
    assert ledger.record(first).verdicts == 2
    assert ledger.record(again).duplicates == 2
    with transaction(engine) as connection:
        # Of the release before.
        connection.execute(text("insert into otel_traces (tenant, otel_trace_id, trace_id) values ('city', 'o', 't')"))
    before = accounting(engine)
    assert left(expire(engine, KEEP_NOTHING, now=NOW)) == {"otel_traces": 1, "duplicates": 1}
    assert ask(engine, "select trace_id from otel_traces order by 1") == [("t",), ("t-0-1",)]
    assert ask(engine, "select trace_id from duplicates") == [("t-0-1",)]
    assert accounting(engine) == before
    # Its receipt says still that it is known.
    assert ledger.record(again).redelivered == 2
    assert recount(engine) == []


def test_dead_letters_go_and_their_number_stays(engine: Engine, ledger: Ledger) -> None:
    late = replace(dead_letter(1), dead_at=NOW)
    ledger.record([], [dead_letter(0), late])
    before = accounting(engine)
    assert left(expire(engine, KEEP_NOTHING, now=NOW, dry_run=True)) == {"dead_letters": 1}
    assert left(expire(engine, KEEP_NOTHING, now=NOW)) == {"dead_letters": 1}
    assert ask(engine, 'select "offset" from dead_letters') == [(1,)]
    assert accounting(engine) == before
    assert before.dead_letters == 2
    assert ledger.record([], [dead_letter(0)]).redelivered == 1
    assert recount(engine) == []


def test_rows_of_tenants_and_of_the_time_before_are_counted_first(engine: Engine, ledger: Ledger) -> None:
    ledger.record([said(n, days=days, tenant=tenant) for n, (days, tenant) in enumerate(OLD)])
    kept = {"payloads": Keeping(days=20, tenants={"brief": 1}), "verdicts": Keeping(days=30)}
    planned = expire(engine, kept, now=NOW, dry_run=True)
    assert at_all(planned) == {"payloads": 3, "judgement_rows": 4, "verdict_rows": 2}
    assert planned is not None
    assert planned.partitions == []
    assert ask(engine, "select count(*) from traces") == [(4,)]
    assert at_all(expire(engine, kept, now=NOW)) == at_all(planned)


OLD = ((8, "brief"), (8, "city"), (-9000, "brief"), (-9000, "city"))


@contextmanager
def deletions() -> Iterator[list[str]]:
    """The tables that rows are deleted from meanwhile."""
    found: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("delete from "):
            found.append(statement.split()[2])

    event.listen(Engine, "before_cursor_execute", keep)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", keep)


def test_days_that_are_done_are_looked_at_only_where_rows_came_late(engine: Engine, ledger: Ledger) -> None:
    kept = {"payloads": Keeping(days=20, tenants={"brief": 1})}
    ledger.record([said(n, days=n, tenant=tenant) for n, tenant in enumerate(("brief", "city", "brief", "brief"))])
    with deletions() as first:
        assert at_all(expire(engine, kept, now=NOW - 5 * DAY)) == {"payloads": 3}
    assert {"payloads_before", "payloads_20260301", "payloads_20260302", "payloads_20260304"} <= set(first)
    with deletions() as again:
        expire(engine, kept, now=NOW - 5 * DAY)
    assert [name for name in again if name.startswith("payloads")] == []
    late = [said(10, days=2, tenant="brief"), said(11, days=0), said(12, days=-9000, tenant="brief")]
    ledger.record([*late, said(13, days=5, tenant="brief")])
    with deletions() as more:
        assert at_all(expire(engine, kept, now=NOW - 3 * DAY)) == {"payloads": 3}
    assert {name for name in more if name.startswith("payloads")} == {
        "payloads_before", "payloads_20260303", "payloads_20260306",
    }  # fmt: skip
    assert ask(engine, "select tenant, count(*) from traces group by 1") == [("city", 2)]
    # Whoever is to be kept for a shorter time from now on has days that were not done for them.
    shorter = {"payloads": Keeping(days=20, tenants={"brief": 1, "city": 1})}
    assert at_all(expire(engine, shorter, now=NOW - 3 * DAY)) == {"payloads": 2}
    assert recount(engine) == []


def test_a_tenant_that_is_kept_for_longer_from_now_on_misses_what_is_gone(engine: Engine, ledger: Ledger) -> None:
    ledger.record([said(n, days=n, tenant="bank") for n in range(3)])
    expire(engine, {"verdicts": Keeping(days=8)}, now=NOW)
    longer = {"verdicts": Keeping(days=8, tenants={"bank": 900})}
    expire(engine, longer, now=NOW)
    expire(engine, longer, now=NOW + DAY)
    assert ask(engine, "select trace_id from verdicts") == [("t-0-2",)]
    assert recount(engine) == []


def test_more_rows_than_a_batch_holds_all_go(
    engine: Engine, book: FeedbackBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.storage.retention_rows._BATCH", 3)
    book.record([given(f"f-{n}", 0, comment="Wrong!") for n in range(7)])
    assert left(expire(engine, KEEP_NOTHING, now=NOW)) == {"feedback_texts": 7, "feedback": 7}
