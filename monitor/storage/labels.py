"""People's labels: random samples that they are asked about, and what they say."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine, and_, func, insert, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert

from monitor.domain.errors import InvalidInput
from monitor.domain.trace import Segment
from monitor.domain.verdict import Label
from monitor.storage.engine import transaction
from monitor.storage.storable import storable
from monitor.storage.tables import label_draws, label_tasks, labels, traces, verdicts


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Answers of one segment with an event time in [since, until) and a verdict of the local judges."""

    segment: Segment
    evaluator: str
    since: datetime
    until: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One answer to label. The judges' verdict is left out: who sees it follows it."""

    trace_id: str
    question: str
    documents: Sequence[Any]
    answer: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """A simple random sample without replacement of `tasks` out of `eligible` answers."""

    draw_id: str
    eligible: int
    tasks: tuple[Task, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """What one person says of one answer."""

    tenant: str
    trace_id: str
    evaluator: str
    label: Label
    note: str = ""


def draw_tasks(engine: Engine, window: Window, *, count: int, actor: str) -> Draw | None:
    """Draw answers for people to label, and keep the draw: the rates need to know how each came to its label.

    Args:
        engine: of the ledger.
        window: of answers whose text is still there.
        count: at most so many.
        actor: who asked for it.

    Returns:
        The draw; None where the window holds no answer.

    Raises:
        LedgerUnavailable: nothing was drawn.
    """
    of = verdicts.c
    eligible = (
        select(of.tenant, of.trace_id)
        .join(traces, and_(*[traces.c[name] == of[name] for name in ("tenant", "trace_id", "event_time")]))
        .where(
            of.tenant == window.segment.tenant,
            of.service == window.segment.service,
            of.environment == window.segment.environment,
            of.evaluator == window.evaluator,
            of.event_time >= window.since,
            of.event_time < window.until,
            of.first_label.is_not(None),
        )
        .distinct()
        .cte("eligible")
        .prefix_with("materialized", dialect="postgresql")
    )
    whole = select(func.count()).select_from(eligible).scalar_subquery()
    chosen = select(eligible, whole.label("eligible")).order_by(func.random()).limit(count)
    draw_id = uuid4().hex[:12]
    with transaction(engine) as connection:
        drawn = connection.execute(chosen).all()
        if not drawn:
            return None
        connection.execute(
            insert(label_draws).values(
                draw_id=draw_id,
                tenant=window.segment.tenant,
                service=window.segment.service,
                environment=window.segment.environment,
                evaluator=window.evaluator,
                since=window.since,
                until=window.until,
                eligible=drawn[0].eligible,
                actor=storable(actor),
            )
        )
        tasks = [{"draw_id": draw_id, "tenant": row.tenant, "trace_id": row.trace_id} for row in drawn]
        connection.execute(insert(label_tasks), tasks)
        texts = select(traces).join(
            label_tasks, (label_tasks.c.tenant == traces.c.tenant) & (label_tasks.c.trace_id == traces.c.trace_id)
        )
        found = connection.execute(texts.where(label_tasks.c.draw_id == draw_id).order_by(func.random())).all()
    return Draw(
        draw_id=draw_id,
        eligible=drawn[0].eligible,
        tasks=tuple(
            Task(trace_id=row.trace_id, question=row.question, documents=row.documents, answer=row.answer)
            for row in found
        ),
    )


def add_labels(engine: Engine, given: Sequence[Labelled], *, actor: str) -> int:
    """Keep what a person says of answers, all or nothing; their last word on each counts.

    Returns:
        How many labels were kept.

    Raises:
        InvalidInput: an answer that was never judged.
        LedgerUnavailable: nothing was kept.
    """
    if not given:
        return 0
    wanted = {(one.tenant, one.trace_id, one.evaluator): one for one in given}
    key = (verdicts.c.tenant, verdicts.c.trace_id, verdicts.c.evaluator)
    with transaction(engine) as connection:
        judged = {tuple(row) for row in connection.execute(select(*key).where(tuple_(*key).in_(wanted)).distinct())}
        for tenant, trace_id, evaluator in wanted:
            if (tenant, trace_id, evaluator) not in judged:
                raise InvalidInput(f"trace_id {trace_id!r}: tenant {tenant!r} has no {evaluator} verdict on it")
        values = [
            {
                "tenant": one.tenant,
                "trace_id": one.trace_id,
                "evaluator": one.evaluator,
                "actor": storable(actor),
                "label": one.label.value,
                "note": storable(one.note),
            }
            for one in wanted.values()
        ]
        add = upsert(labels)
        changed = {"label": add.excluded.label, "note": add.excluded.note, "labelled_at": func.now()}
        connection.execute(add.on_conflict_do_update(index_elements=labels.primary_key.columns, set_=changed), values)
    return len(values)
