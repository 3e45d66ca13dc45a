"""Revising one verdict after the fact: the row, its receipt, the accounting and the rollup change together.

Locks are taken in the ledger's order (see `statements`): judges, words, the verdict, its receipt, intake, rollup.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Double, Numeric, Row, and_, cast, func, literal, null, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.elements import ColumnElement

from monitor.domain.judgement import CouldNotJudge, Judgement, Opinion, Tier
from monitor.domain.verdict import Assessment, Verdict
from monitor.storage.engine import driver_cursor
from monitor.storage.receipts import CODES
from monitor.storage.rows import (
    OutcomeColumns,
    choice_words,
    decided_by,
    judge_row,
    judgement_columns,
    microseconds,
    outcome_columns,
    segment_words,
)
from monitor.storage.tables import (
    SEGMENT_WORDS,
    cost_rollups,
    decisions,
    intake,
    judgement_rows,
    judges,
    rollups,
    segments,
    verdict_rows,
)
from monitor.storage.tallies import Cost
from monitor.storage.words import CHOICES, DECISIONS, numbers

# What makes a verdict another verdict. A pool that changes none of it leaves its judgement, and no revision.
_SUBSTANCE = ("outcome", "hallucinated", "probability", "reason")
_COUNTER_OF = {"v": "verdicts", "u": "unjudged"}

_SETTLE = text("""
update receipt_ranges as kept
set outcomes = overlay(outcomes placing :code from (:offset - first_offset + 1)::integer for 1)
from topics
where topics.topic = :topic and kept.topic_id = topics.topic_id and kept.partition = :partition
    and first_offset > :offset - 2048 and first_offset <= :offset
    and substr(outcomes, (:offset - first_offset + 1)::integer, 1) = :pending
""")


# Whose row is gone: it was one that could not be judged here, and waited for the pool.
_PENDING = OutcomeColumns(
    outcome="p", hallucinated=None, probability=None, reason=None, detail=None, reasoning=None, unsupported=None
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a verdict is found, and the receipt of the record that it came from.

    Attributes:
        segment: a row of `segments`, without its number.
        log, partition, offset: the record's place; `log` is the topic's life.
    """

    segment: tuple[str, ...]
    trace_id: str
    event_time: datetime
    log: str
    partition: int
    offset: int


def place_of(assessment: Assessment) -> Place:
    """That of the verdict which came with this assessment."""
    trace, origin = assessment.trace, assessment.origin
    return Place(
        segment=segment_words(assessment),
        trace_id=trace.trace_id,
        event_time=trace.event_time,
        log=origin.log,
        partition=origin.partition,
        offset=origin.offset,
    )


def revise(
    connection: Connection,
    assessment: Assessment,
    *,
    judgement: Judgement | None,
    outcome: Verdict | CouldNotJudge,
    at: datetime,
) -> None:
    """Add a judgement to a recorded trace, and let its current verdict follow; its first verdict stays.

    A trace that has a verdict keeps it when `outcome` is none. One whose verdict is gone (retention) stays gone, and
    is pending no more.
    """
    revise_at(connection, place_of(assessment), judgement=judgement, outcome=outcome, at=at)


def revise_at(
    connection: Connection,
    place: Place,
    *,
    judgement: Judgement | None,
    outcome: Verdict | CouldNotJudge,
    at: datetime,
) -> None:
    """As `revise`, of a verdict whose assessment need not be known."""
    if judgement is not None:
        connection.execute(
            insert(judges)
            .values(dict(zip(judges.c.keys(), judge_row(judgement.judge), strict=True)))
            .on_conflict_do_nothing()
        )
    before = connection.execute(_recorded(place).with_for_update(of=verdict_rows)).one_or_none()
    if before is None:
        after = outcome_columns(outcome, escalated=False)
        if _settle(connection, place, after.outcome):
            _count(connection, place, before=_PENDING, after=after, judgement=None)
        return
    if judgement is not None:
        _add_judgement(connection, before, judgement, at)
    follows = _follow(connection, place, before=before, outcome=outcome, at=at)
    _count(connection, place, before=before, after=follows, judgement=judgement)


def reconsider(connection: Connection, assessment: Assessment) -> None:
    """Let a replay's verdict follow upon its own version's "could not judge": judgements appended, evidence kept."""
    for judgement in assessment.judgements or (None,):
        revise(connection, assessment, judgement=judgement, outcome=assessment.outcome, at=assessment.judged_at)


def _recorded(place: Place) -> Any:
    """The row, by its whole key: the time finds its partition."""
    of_segment = [segments.c[name] == word for name, word in zip(SEGMENT_WORDS, place.segment, strict=True)]
    return (
        select(verdict_rows, decisions.c.action, decisions.c.reason.label("because"), decisions.c.decided_by)
        .join(segments, segments.c.segment_id == verdict_rows.c.segment_id)
        .join(decisions, decisions.c.decision_id == verdict_rows.c.decision_id)
        .where(*of_segment)
        .where(
            verdict_rows.c.trace_id == place.trace_id,
            verdict_rows.c.event_time == place.event_time,
        )
    )


def _follow(
    connection: Connection,
    place: Place,
    *,
    before: Row[Any],
    outcome: Verdict | CouldNotJudge,
    at: datetime,
) -> OutcomeColumns | None:
    """Bring the current verdict up to `outcome`; None when it stays as it is."""
    after = outcome_columns(outcome, escalated=False)
    said_by = decided_by(outcome)
    keeps = before.outcome == "v" and after.outcome != "v"
    same = all(getattr(before, name) == getattr(after, name) for name in _SUBSTANCE)
    if keeps or (same and tuple(before.decided_by) == said_by):
        return None
    words = (before.action, before.because, said_by)
    decision_id = numbers(driver_cursor(connection), DECISIONS, [words])[words]
    connection.execute(
        update(verdict_rows)
        .where(_same(verdict_rows, before))
        .values(**_loaded(after), decision_id=decision_id, revision=verdict_rows.c.revision + 1, revised_at=at)
    )
    if before.outcome == "p":
        _settle(connection, place, after.outcome)
    return after


def _same(table: Any, row: Row[Any]) -> ColumnElement[bool]:
    return and_(table.c.verdict_id == row.verdict_id, table.c.event_time == row.event_time)


def _loaded(columns: Any) -> dict[str, Any]:
    # `rows` makes JSON text, for COPY; the text is cast here, not encoded a second time.
    values: dict[str, Any] = columns._asdict()
    for name in ("unsupported", "windows"):
        if values.get(name) is not None:
            values[name] = cast(literal(values[name]), verdict_rows.c.unsupported.type)
        elif name in values:
            values[name] = null()  # None would be the JSON value null
    return values


def _add_judgement(connection: Connection, verdict: Row[Any], judgement: Judgement, at: datetime) -> None:
    words = choice_words(judgement)
    last = connection.execute(
        select(func.max(judgement_rows.c.sequence)).where(_same(judgement_rows, verdict))
    ).scalar_one()
    connection.execute(
        insert(judgement_rows).values(
            verdict_id=verdict.verdict_id,
            event_time=verdict.event_time,
            segment_id=verdict.segment_id,
            choice_id=numbers(driver_cursor(connection), CHOICES, [words])[words],
            sequence=0 if last is None else last + 1,
            judged_at=at,
            **_loaded(judgement_columns(judgement)),
        )
    )


def _settle(connection: Connection, place: Place, outcome: str) -> bool:
    """Let the receipt and the accounting say how a pending record ended; whether it was pending."""
    settled = connection.execute(
        _SETTLE,
        {
            "code": outcome,
            "pending": CODES["pending"],
            "topic": place.log,
            "partition": place.partition,
            "offset": place.offset,
        },
    )
    counter = intake.c[_COUNTER_OF[outcome]]
    connection.execute(
        update(intake)
        .where(intake.c.topic == place.log, intake.c.partition == place.partition)
        .values({intake.c.pending: intake.c.pending - settled.rowcount, counter: counter + settled.rowcount})
    )
    return settled.rowcount > 0


def _count(
    connection: Connection,
    place: Place,
    *,
    before: Row[Any] | OutcomeColumns,
    after: OutcomeColumns | None,
    judgement: Judgement | None,
) -> None:
    change: dict[str, Any] = {}
    if after is not None:
        change |= {
            "total": (after.hallucinated is not None) - (before.hallucinated is not None),
            "hallucinated": bool(after.hallucinated) - bool(before.hallucinated),
            "unjudged": (after.outcome == "u") - (before.outcome == "u"),
            "pending": (after.outcome == "p") - (before.outcome == "p"),
            "sum_probability": _exactly(after.probability) - _exactly(before.probability),
        }
    if judgement is not None:
        tier = "pool_latency_us" if judgement.judge.tier is Tier.POOL else "local_latency_us"
        change[tier] = microseconds(judgement)
        change["pool_judged"] = int(judgement.judge.tier is Tier.POOL and isinstance(judgement.result, Opinion))
    if not change:
        return
    connection.execute(
        update(rollups)
        .where(
            *[rollups.c[name] == word for name, word in zip(SEGMENT_WORDS, place.segment, strict=True)],
            rollups.c.minute == func.date_trunc("minute", place.event_time, "UTC"),
        )
        .values({name: rollups.c[name] + by for name, by in change.items()} | {"changed": func.pg_current_xact_id()})
    )
    if judgement is not None:
        _cost(connection, place, judgement)


def _cost(connection: Connection, place: Place, judgement: Judgement) -> None:
    """Count what the judgement cost; an hour's row may be the first of this judge."""
    segment = dict(zip(SEGMENT_WORDS, place.segment, strict=True))
    cost = Cost()
    cost.add(judgement)
    hour = place.event_time.replace(minute=0, second=0, microsecond=0)
    add = insert(cost_rollups).values(**segment, judge=judge_row(judgement.judge)[0], hour=hour, **asdict(cost))
    sums = {name: cost_rollups.c[name] + add.excluded[name] for name in asdict(cost)}
    connection.execute(add.on_conflict_do_update(index_elements=cost_rollups.primary_key.columns, set_=sums))


def _exactly(probability: float | None) -> ColumnElement[Any]:
    # By the same cast as the ledger's, so that what was added is taken away to the last digit.
    return cast(cast(literal(probability or 0.0), Double), Numeric)
