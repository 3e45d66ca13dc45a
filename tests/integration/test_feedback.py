"""Feedback in the ledger: kept once, joined to verdicts when asked for, and in nothing that is counted of traces."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from monitor.domain.feedback import Feedback, Thumb
from monitor.domain.verdict import Assessment
from monitor.services.feedback import FeedbackService
from monitor.services.ledger import LedgerService, Recorded
from monitor.storage.accounting import accounting
from monitor.storage.engine import transaction
from monitor.storage.feedback import FeedbackBook, FeedbackReport
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.tables import dead_letters
from monitor.streaming.consume import Record
from monitor.wire import encode_assessment, encode_feedback
from tests.examples.assessments import NOON, assessment
from tests.examples.feedback import feedback

FEEDBACK, JUDGEMENTS = "rag.feedback.v1", "rag.judgements.v1"
OTEL = "0af7651916cd43dd8448eb211c80319c"
DOWN = {"thumb": Thumb.DOWN}


@pytest.fixture
def book(engine: Engine) -> FeedbackBook:
    return FeedbackBook(engine)


@pytest.fixture
def observed() -> list[Recorded]:
    return []


@pytest.fixture
def service(engine: Engine, book: FeedbackBook, ledger: Ledger, observed: list[Recorded]) -> LedgerService:
    return LedgerService(
        ledger=ledger,
        dead_letters_topic="rag.dead-letters.v1",
        feedback=FeedbackService(book=book, topic=FEEDBACK, clock=lambda: NOON),
        clock=lambda: NOON,
        observe=observed.append,
    )


def record(message: Feedback | Assessment | bytes, *, offset: int = 0) -> Record:
    said = isinstance(message, Feedback | bytes)
    value = encode_feedback(message) if isinstance(message, Feedback) else message
    value = encode_assessment(value) if isinstance(value, Assessment) else value
    topic = FEEDBACK if said else JUDGEMENTS
    return Record(topic=topic, partition=1, offset=offset, key=None, value=value, high_watermark=100, timestamp=0.0)


def rows(engine: Engine, query: str) -> list[dict[str, Any]]:
    with transaction(engine) as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]


def joined(engine: Engine) -> dict[str, list[tuple[str | None, str | None, str | None]]]:
    found: dict[str, list[tuple[str | None, str | None, str | None]]] = {}
    for row in rows(engine, "select * from report.feedback order by feedback_id, trace_id"):
        found.setdefault(row["feedback_id"], []).append((row["joined_by"], row["trace_id"], row["label"]))
    return found


def test_feedback_is_kept_once_as_it_came_first(engine: Engine, book: FeedbackBook) -> None:
    first = feedback("f-1", trace_id="t", comment="first", **DOWN)
    again = replace(first, comment="again")
    assert book.record([first, again]) == FeedbackReport(recorded=1, repeated=1)
    assert book.record([again, replace(again, tenant="other")]) == FeedbackReport(recorded=1, repeated=1)
    assert [(row["tenant"], row["comment"]) for row in rows(engine, "select * from feedback order by tenant")] == [
        ("city", "first"),
        ("other", "again"),
    ]


def test_what_says_nothing_is_not_kept_as_if_it_did(engine: Engine, book: FeedbackBook) -> None:
    book.record([feedback("f", trace_id="t", comment="", corrected_answer="", **DOWN)])
    assert [(row["comment"], row["corrected_answer"]) for row in rows(engine, "select * from feedback")] == [
        (None, None)
    ]


def test_it_may_come_before_the_verdict_and_for_a_trace_that_never_comes(
    engine: Engine, book: FeedbackBook, ledger: Ledger
) -> None:
    book.record([feedback("early", trace_id="t-0-0", **DOWN), feedback("lost", trace_id="nowhere", **DOWN)])
    assert joined(engine) == {"early": [(None, "t-0-0", None)], "lost": [(None, "nowhere", None)]}
    ledger.record([assessment(0, probability=0.9)])
    assert joined(engine) == {"early": [("trace_id", "t-0-0", "hallucinated")], "lost": [(None, "nowhere", None)]}


def test_opentelemetrys_id_finds_every_answer_of_its_trace(engine: Engine, book: FeedbackBook, ledger: Ledger) -> None:
    ledger.record(
        [
            # As the sidecar assembles spans: the first answer bears the id, the next one its span's, too.
            assessment(0, trace_id=OTEL, otel_trace_id=OTEL),
            assessment(1, trace_id=f"{OTEL}-00f067aa0ba902b7", otel_trace_id=OTEL, probability=0.9),
            # As a service sends JSON: an id of its own.
            assessment(2, trace_id="req-1", otel_trace_id="1" * 32),
        ]
    )
    book.record(
        [
            feedback("both-answers", otel_trace_id=OTEL, **DOWN),
            feedback("own-id", otel_trace_id="1" * 32, **DOWN),
            feedback("unknown-own-id", trace_id="not-ours", otel_trace_id="1" * 32, **DOWN),
            feedback("known-own-id", trace_id="req-1", otel_trace_id=OTEL, **DOWN),
            replace(feedback("of-another", otel_trace_id=OTEL, **DOWN), tenant="other"),
        ]
    )
    assert joined(engine) == {
        "both-answers": [
            ("otel_trace_id", OTEL, "faithful"),
            ("otel_trace_id", f"{OTEL}-00f067aa0ba902b7", "hallucinated"),
        ],
        "own-id": [("otel_trace_id", "req-1", "faithful")],
        "unknown-own-id": [("otel_trace_id", "req-1", "faithful")],
        "known-own-id": [("trace_id", "req-1", "faithful")],
        "of-another": [(None, None, None)],
    }


def test_an_opentelemetry_id_still_joins_when_the_answers_text_is_gone(
    engine: Engine, book: FeedbackBook, ledger: Ledger
) -> None:
    ledger.record([assessment(0, trace_id="req-1", otel_trace_id=OTEL)])
    book.record([feedback("late", otel_trace_id=OTEL, **DOWN)])
    with transaction(engine) as connection:
        connection.execute(text("delete from payloads"))
    assert joined(engine) == {"late": [("otel_trace_id", "req-1", "faithful")]}


def test_a_day_counts_answers_by_label_and_what_became_of_them(
    engine: Engine, book: FeedbackBook, ledger: Ledger
) -> None:
    next_day = 13 * 3600
    ledger.record(
        [
            *[assessment(number, probability=0.9) for number in range(3)],
            *[assessment(number, probability=0.1) for number in range(3, 8)],
            assessment(8, probability=None),
            assessment(9, probability=0.1, seconds_past_noon=next_day),
        ]
    )
    book.record(
        [
            # Two people of one answer, and one of them twice: it is one answer that somebody liked, and somebody not.
            feedback("a", trace_id="t-0-0", thumb=Thumb.DOWN, outcome="escalated"),
            feedback("b", trace_id="t-0-0", thumb=Thumb.DOWN, corrected_answer="At nine."),
            feedback("c", trace_id="t-0-0", thumb=Thumb.UP),
            feedback("d", trace_id="t-0-1", outcome="escalated"),
            feedback("e", trace_id="t-0-3", thumb=Thumb.UP, outcome="resolved"),
            feedback("f", trace_id="t-0-8", thumb=Thumb.DOWN),
            feedback("g", trace_id="nowhere", thumb=Thumb.DOWN),
            # Of yesterday's answer, given today: it counts for the answer's day.
            replace(feedback("h", trace_id="t-0-4", thumb=Thumb.DOWN), time=NOON + timedelta(days=1)),
        ]
    )
    names = ("answers", "with_feedback", "thumbs_up", "thumbs_down", "corrected", "outcomes")
    found = rows(engine, "select * from report.outcomes_per_day order by day, label nulls last")
    assert [(row["day"].day, row["label"], *[row[name] for name in names]) for row in found] == [
        (1, "faithful", 5, 2, 1, 1, 0, {"resolved": 1}),
        (1, "hallucinated", 3, 2, 1, 1, 1, {"escalated": 2}),
        (1, None, 1, 1, 0, 1, 0, {}),
        (2, "faithful", 1, 0, 0, 0, 0, {}),
    ]


def test_feedback_changes_nothing_that_is_counted_of_traces(
    engine: Engine, ledger: Ledger, service: LedgerService, observed: list[Recorded]
) -> None:
    rates = "select * from report.hallucination_rates('2026-03-01', '2026-03-02', trust => 'people')"
    ledger.record([assessment(number, probability=0.9 if number % 3 else 0.1) for number in range(40)])
    before = accounting(engine), rows(engine, rates), rows(engine, "select * from report.rates_per_minute")
    service.work([record(feedback(f"f-{n}", trace_id=f"t-0-{n}", **DOWN), offset=n) for n in range(40)])
    assert [seen.feedback for seen in observed] == [FeedbackReport(recorded=40)]
    assert observed[0].behind == {(FEEDBACK, 1): 60}
    assert (accounting(engine), rows(engine, rates), rows(engine, "select * from report.rates_per_minute")) == before
    assert rows(engine, "select * from labels") == []
    assert recount(engine) == []


def test_both_topics_in_one_batch_each_to_its_place_and_again_without_effect(
    engine: Engine, service: LedgerService, observed: list[Recorded]
) -> None:
    batch = [record(feedback("f", trace_id="t-0-0", **DOWN)), record(assessment(0)), record(b"{}", offset=7)]
    service.work(batch)
    service.work(batch)
    assert [seen.feedback for seen in observed] == [FeedbackReport(recorded=1), FeedbackReport(repeated=1)]
    assert [report.verdicts for seen in observed for report in seen.reports] == [1, 0]
    assert joined(engine) == {"f": [("trace_id", "t-0-0", "faithful")]}


@pytest.mark.parametrize(
    ("value", "reason", "field"),
    [(b"", "not_json", "$"), (b"{}", "invalid", "feedback_id"), (b"\xff", "not_json", "$")],
)
def test_a_record_that_is_no_feedback_is_kept_and_stops_nothing(
    engine: Engine, service: LedgerService, value: bytes, reason: str, field: str
) -> None:
    service.work([record(value, offset=7), record(feedback("f", trace_id="t", **DOWN), offset=8)])
    with transaction(engine) as connection:
        row = connection.execute(select(dead_letters)).one()
    assert (row.topic, row.partition, row.offset, row.reason, row.field, row.raw) == (
        FEEDBACK,
        1,
        7,
        reason,
        field,
        value,
    )
    assert list(joined(engine)) == ["f"]
    assert accounting(engine).dead_letters == 0


def test_what_postgres_refuses_is_buried_alone(engine: Engine, service: LedgerService) -> None:
    with transaction(engine) as connection:
        connection.execute(text("alter table feedback add check (comment <> 'refuse me')"))
    said = [feedback(f"f-{n}", trace_id="t", comment="refuse me" if n == 3 else "fine") for n in range(9)]
    service.work([record(one, offset=number) for number, one in enumerate(said)])
    assert sorted(joined(engine)) == [f"f-{n}" for n in range(9) if n != 3]
    with transaction(engine) as connection:
        row = connection.execute(select(dead_letters)).one()
    assert (row.offset, row.reason, row.raw) == (3, "invalid", encode_feedback(said[3]))
    assert row.detail.startswith("not storable: ")
