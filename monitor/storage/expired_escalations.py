"""Escalations that outlived what they are about: given up, so that no text waits longer for the pool than it is kept.

An escalation holds the whole payload. While the pool is away it would keep that for ever, and a trace without a verdict
would stay pending when its row is gone: so this comes before any row goes.
"""

import logging
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, Text, cast, func, null, select, text, update
from sqlalchemy.sql.elements import ColumnElement

from monitor.domain.errors import InvalidMessage
from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.storage.engine import retry_conflicts, transaction
from monitor.storage.revision import Place, place_of, revise_at
from monitor.storage.tables import SEGMENT_WORDS, escalations
from monitor.wire import decode_assessment

logger = logging.getLogger(__name__)

_AT_ONCE = 1000
_EXPIRED = CouldNotJudge(reason=Unjudgeable.EXPIRED, detail="kept no longer, and the pool had not judged it")

_PLACE = text(f"""
select {", ".join(SEGMENT_WORDS)}, topic, partition, "offset" from verdicts
where tenant = :tenant and trace_id = :trace_id and event_time = :event_time
    and evaluator = :evaluator and judge_version = :judge_version
""")  # noqa: S608 - constants are put in


def give_up_expired(engine: Engine, *, before: datetime, tenants: ColumnElement[bool], at: datetime) -> int:
    """Give up what waits for the pool and happened before `before`: a verdict stays, a trace without becomes unjudged.

    One transaction each, as the pool's own. A worker that holds a lease on one finds it lost.

    Args:
        engine: of the ledger.
        before: of event time; of the time of escalation where a release before this one kept none.
        tenants: whose, a condition on `escalations.tenant`.
        at: when this is.

    Returns:
        How many.

    Raises:
        LedgerUnavailable: those that are done are done.
    """
    return sum(retry_conflicts(partial(_give_up, engine, number, at)) for number in _open(engine, before, tenants))


def count_expired(engine: Engine, *, before: datetime, tenants: ColumnElement[bool]) -> int:
    """How many `give_up_expired` would give up."""
    with transaction(engine) as connection:
        asked = select(func.count()).select_from(escalations).where(*_waiting(before), tenants)
        return connection.execute(asked).scalar_one()


def _waiting(before: datetime) -> tuple[ColumnElement[bool], ...]:
    happened = func.coalesce(escalations.c.event_time, escalations.c.created_at)
    return escalations.c.state.in_(("waiting", "claimed")), happened < before


def _open(engine: Engine, before: datetime, tenants: ColumnElement[bool]) -> Iterator[int]:
    last = -1
    while True:
        asked = select(escalations.c.id).where(*_waiting(before), tenants, escalations.c.id > last)
        with transaction(engine) as connection:
            numbers = connection.execute(asked.order_by(escalations.c.id).limit(_AT_ONCE)).scalars().all()
        if not numbers:
            return
        yield from numbers
        last = numbers[-1]


def _give_up(engine: Engine, number: int, at: datetime) -> bool:
    with transaction(engine) as connection:
        gone = connection.execute(
            select(
                *escalations.c["id", "tenant", "trace_id", "evaluator", "judge_version", "event_time"],
                cast(escalations.c.assessment, Text).label("assessment"),
            )
            .where(escalations.c.id == number, escalations.c.state.in_(("waiting", "claimed")))
            .with_for_update()
        ).one_or_none()
        if gone is None:
            return False
        connection.execute(
            update(escalations)
            .where(escalations.c.id == number)
            .values(
                state="given_up",
                assessment=null(),
                finished_at=func.now(),
                last_error=f"{_EXPIRED.reason.value}: {_EXPIRED.detail}",
            )
        )
        if place := _place(connection, gone):
            revise_at(connection, place, judgement=None, outcome=_EXPIRED, at=at)
    return True


def _place(connection: Connection, gone: Any) -> Place | None:
    """By the verdict itself, for which no assessment has to be read; where that is gone, by the assessment."""
    found = connection.execute(_PLACE, gone._asdict()).one_or_none()
    if found is not None:
        *segment, log, partition, offset = found
        return Place(
            segment=tuple(segment),
            trace_id=gone.trace_id,
            event_time=gone.event_time,
            log=log,
            partition=partition,
            offset=offset,
        )
    try:
        return place_of(decode_assessment((gone.assessment or "").encode()))
    except InvalidMessage:
        logger.warning("an escalation that cannot be read, and has no verdict", extra={"escalation": gone.id})
        return None
