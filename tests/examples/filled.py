"""A small ledger in which everything has happened once: written as the workers write it, an hour or two ago."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, text

from monitor.domain.feedback import Thumb
from monitor.domain.judgement import CouldNotJudge, Judgement, Opinion, Unjudgeable, Usage
from monitor.domain.trace import Origin
from monitor.domain.verdict import FAITHFULNESS, Label
from monitor.storage.engine import transaction
from monitor.storage.escalations import EscalationQueue
from monitor.storage.feedback import FeedbackBook
from monitor.storage.labels import Labelled, add_labels
from monitor.storage.ledger import Ledger
from tests.examples.assessments import NOON, POOL, assessment, dead_letter, judgement, verdict
from tests.examples.feedback import feedback

HOUR = (datetime.now(UTC) - timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
"""All of it was answered in this hour."""

EARLIER = HOUR - timedelta(days=20)
NEXT_VERSION = "cascade@000000000002"
_FAILED = CouldNotJudge(reason=Unjudgeable.TOO_LONG, detail="40,000 tokens")


def fill(engine: Engine) -> None:
    """Traces t-0-0 to t-0-10 of city/help-desk, and t-0-7 of city/shop.

    0 faithful (and again as record 10), 1 hallucinated, 2 faithful until the pool said otherwise, 3 hallucinated and
    confirmed, 4 waits for the pool, 5 could not be judged, 6 given up, 7 sampled, 8 a dead letter, 9 judged by the pool
    alone. People have labelled 0 and 1, and the next judge version has judged both.
    """
    assessments = [
        _answered(0),
        _answered(1, probability=0.9),
        _answered(2, escalated=True),
        _answered(3, probability=0.9, escalated=True),
        _answered(4, probability=None, escalated=True, priority=999),
        _answered(5, probability=None),
        _answered(6, probability=None, escalated=True),
        _answered(7, service="shop", sampling_probability=0.5),
        _answered(9, probability=None, escalated=True),
        _answered(10, trace_id="t-0-0"),
    ]
    ledger = Ledger(engine)
    ledger.record(assessments, [dead_letter(8)])
    elsewhere = Origin(topic="rag.judgements.v1", partition=0, offset=3)
    ledger.record_strays([replace(dead_letter(8), origin=elsewhere)])
    _be_the_pool(engine)
    given = HOUR + timedelta(minutes=30)
    FeedbackBook(engine).record(
        [
            feedback("f-1", time=given, trace_id="t-0-0", thumb=Thumb.DOWN, outcome="escalated"),
            feedback("f-2", time=given, trace_id="t-0-3", corrected_answer="At nine."),
            feedback("f-3", time=given, trace_id="nowhere", comment="What?"),
        ]
    )
    for actor, trace_id, note in (("ana", "t-0-1", ""), ("bo", "t-0-0", "nine, not ten")):
        said = Labelled(tenant="city", trace_id=trace_id, evaluator=FAITHFULNESS, label=Label.HALLUCINATED, note=note)
        add_labels(engine, [said], actor=actor)
    judge_again(engine, "t-0-0", "t-0-1")


def _answered(offset: int, **changes: Any) -> Any:
    past = (HOUR + timedelta(minutes=offset) - NOON).total_seconds()
    return assessment(offset, seconds_past_noon=past, **changes)


def from_pool(probability: float) -> Judgement:
    """The pool's word, at a price."""
    usage = Usage(prompt_tokens=900, completion_tokens=80, cost_usd=0.001)
    word = judgement(POOL, probability=probability, seconds=1.5)
    return replace(word, result=Opinion(raw_score=4.0 if probability >= 0.5 else -4.0, usage=usage))


def _be_the_pool(engine: Engine) -> None:
    queue = EscalationQueue(engine)
    says = {"t-0-2": 0.9, "t-0-3": 0.95, "t-0-9": 0.1}
    for escalation in queue.claim(10, lease_seconds=60):
        trace_id = escalation.assessment.trace.trace_id
        at = escalation.assessment.judged_at + timedelta(minutes=5)
        if trace_id == "t-0-4":
            queue.put_back(escalation, error="busy", retry_seconds=0)
        elif trace_id == "t-0-6":
            queue.give_up(escalation, _FAILED, at=at)
        else:
            probability = says[trace_id]
            queue.complete(escalation, from_pool(probability), verdict(probability, by=POOL), at=at)
    [again] = queue.claim(10, lease_seconds=60)
    queue.put_back(again, error="busy", retry_seconds=3600)


def judge_again(engine: Engine, *trace_ids: str) -> None:
    """Verdicts of the next judge version beside those that there are: all hallucinated."""
    segment = text(
        "insert into segments (tenant, service, environment, evaluator, judge_version)"
        " select distinct tenant, service, environment, evaluator, :version from verdicts"
        " where trace_id = any(:trace_ids)"
    )
    again = text(
        'insert into verdict_rows (verdict_id, event_time, judged_at, "offset", probability, first_probability,'
        " inclusion_probability, sampling_probability, segment_id, decision_id, topic_id, partition, outcome,"
        " escalated, hallucinated, first_hallucinated, trace_id, reason, detail, reasoning, unsupported)"
        " select said.verdict_id + 1000, event_time, judged_at + interval '30 minutes', \"offset\", 0.8, 0.8,"
        " inclusion_probability, sampling_probability, next.segment_id, decision_id, topic_id, partition, outcome,"
        " escalated, true, true, trace_id, reason, detail, reasoning, unsupported"
        " from verdict_rows as said join segments as before using (segment_id)"
        " join segments as next using (tenant, service, environment, evaluator)"
        " where next.judge_version = :version and trace_id = any(:trace_ids)"
    )
    # It was in use some weeks ago: a version is one of a time where rollups of that time know it.
    minutes = text(
        "insert into rollups (tenant, service, environment, evaluator, judge_version, minute, last_event_time)"
        " select distinct tenant, service, environment, evaluator, judge_version, minute, minute from verdicts"
        " cross join (select cast(:earlier as timestamptz) as minute) as earlier"
        " where judge_version = :version and trace_id = any(:trace_ids)"
    )
    with transaction(engine) as connection:
        for statement in (segment, again, minutes):
            known = {"version": NEXT_VERSION, "trace_ids": list(trace_ids), "earlier": EARLIER}
            connection.execute(statement, known)
