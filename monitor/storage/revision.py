"""Revising one verdict after the fact: the row, its receipt, the accounting and the rollup change together.

Locks are taken in the ledger's order (see `statements`): judges, verdict, receipt, intake, rollup.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Double, Numeric, Row, and_, cast, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.elements import ColumnElement

from monitor.domain.judgement import CouldNotJudge, Judgement, Opinion, Tier
from monitor.domain.verdict import Assessment, Verdict
from monitor.storage.rows import OutcomeColumns, judge_row, judgement_columns, microseconds, outcome_columns
from monitor.storage.tables import intake, judgements, judges, receipts, rollups, verdicts

# What makes a verdict another verdict. A pool that changes none of it leaves its judgement, and no revision.
_SUBSTANCE = ("outcome", "label", "probability", "reason", "decided_by")
_COUNTER_OF = {"verdict": "verdicts", "unjudged": "unjudged"}


def revise(
    connection: Connection,
    assessment: Assessment,
    *,
    judgement: Judgement | None,
    outcome: Verdict | CouldNotJudge,
    at: datetime,
) -> None:
    """Add a judgement to a recorded trace, and let its current verdict follow; its first verdict stays.

    A trace that has a verdict keeps it when `outcome` is none. One whose verdict is gone (retention) stays gone.
    """
    if judgement is not None:
        _introduce(connection, judgement)
    before = connection.execute(select(verdicts).where(_same(verdicts, assessment)).with_for_update()).one_or_none()
    if before is None:
        return
    if judgement is not None:
        _add_judgement(connection, assessment, judgement, at)
    after = _follow(connection, assessment, before=before, outcome=outcome, at=at)
    _count(connection, assessment, before=before, after=after, judgement=judgement)


def _follow(
    connection: Connection,
    assessment: Assessment,
    *,
    before: Row[Any],
    outcome: Verdict | CouldNotJudge,
    at: datetime,
) -> OutcomeColumns | None:
    """Bring the current verdict up to `outcome`; None when it stays as it is."""
    after = outcome_columns(outcome, escalated=False)
    keeps = before.outcome == "verdict" and after.outcome != "verdict"
    if keeps or all(getattr(before, name) == getattr(after, name) for name in _SUBSTANCE):
        return None
    change = update(verdicts).where(_same(verdicts, assessment))
    connection.execute(change.values(**_loaded(after), revision=verdicts.c.revision + 1, revised_at=at))
    if before.outcome == "pending":
        _settle(connection, assessment, after.outcome)
    return after


def _same(table: Any, assessment: Assessment) -> ColumnElement[bool]:
    return and_(
        table.c.tenant == assessment.trace.tenant,
        table.c.trace_id == assessment.trace.trace_id,
        table.c.evaluator == assessment.evaluator,
        table.c.judge_version == assessment.judge_version,
    )


def _loaded(columns: Any) -> dict[str, Any]:
    # `rows` makes JSON text, for COPY; the text is cast here, not encoded a second time.
    values: dict[str, Any] = columns._asdict()
    for name in ("unsupported", "windows"):
        if values.get(name) is not None:
            values[name] = cast(literal(values[name]), verdicts.c.unsupported.type)
    return values


def _introduce(connection: Connection, judgement: Judgement) -> None:
    row = dict(zip(judges.c.keys(), judge_row(judgement.judge), strict=True))
    connection.execute(insert(judges).values(row).on_conflict_do_nothing())


def _add_judgement(connection: Connection, assessment: Assessment, judgement: Judgement, at: datetime) -> None:
    last = connection.execute(select(func.max(judgements.c.sequence)).where(_same(judgements, assessment))).scalar_one()
    connection.execute(
        insert(judgements).values(
            tenant=assessment.trace.tenant,
            trace_id=assessment.trace.trace_id,
            evaluator=assessment.evaluator,
            judge_version=assessment.judge_version,
            sequence=0 if last is None else last + 1,
            judged_at=at,
            **_loaded(judgement_columns(judgement)),
        )
    )


def _settle(connection: Connection, assessment: Assessment, outcome: str) -> None:
    origin = assessment.origin
    settled = connection.execute(
        update(receipts)
        .where(
            receipts.c.topic == origin.log,
            receipts.c.partition == origin.partition,
            receipts.c.offset == origin.offset,
            receipts.c.outcome == "pending",
        )
        .values(outcome=outcome)
    )
    counter = intake.c[_COUNTER_OF[outcome]]
    connection.execute(
        update(intake)
        .where(intake.c.topic == origin.log, intake.c.partition == origin.partition)
        .values({intake.c.pending: intake.c.pending - settled.rowcount, counter: counter + settled.rowcount})
    )


def _count(
    connection: Connection,
    assessment: Assessment,
    *,
    before: Row[Any],
    after: OutcomeColumns | None,
    judgement: Judgement | None,
) -> None:
    change: dict[str, Any] = {}
    if after is not None:
        change |= {
            "total": (after.label is not None) - (before.label is not None),
            "hallucinated": (after.label == "hallucinated") - (before.label == "hallucinated"),
            "unjudged": (after.outcome == "unjudged") - (before.outcome == "unjudged"),
            "pending": (after.outcome == "pending") - (before.outcome == "pending"),
            "sum_probability": _exactly(after.probability) - _exactly(before.probability),
        }
    if judgement is not None:
        tier = "pool_latency_us" if judgement.judge.tier is Tier.POOL else "local_latency_us"
        change[tier] = microseconds(judgement)
        change["pool_judged"] = int(judgement.judge.tier is Tier.POOL and isinstance(judgement.result, Opinion))
    if not change:
        return
    trace = assessment.trace
    connection.execute(
        update(rollups)
        .where(
            rollups.c.tenant == trace.tenant,
            rollups.c.service == trace.service,
            rollups.c.environment == trace.environment,
            rollups.c.evaluator == assessment.evaluator,
            rollups.c.judge_version == assessment.judge_version,
            rollups.c.minute == func.date_trunc("minute", trace.event_time, "UTC"),
        )
        .values({name: rollups.c[name] + by for name, by in change.items()} | {"changed": func.pg_current_xact_id()})
    )


def _exactly(probability: float | None) -> ColumnElement[Any]:
    # By the same cast as the ledger's, so that what was added is taken away to the last digit.
    return cast(cast(literal(probability or 0.0), Double), Numeric)
