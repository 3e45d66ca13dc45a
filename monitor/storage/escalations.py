"""The escalation queue: traces that wait for the pool, in Postgres, beside the verdicts that they may change.

`Ledger.record` enqueues in the transaction that writes the verdict; `complete` and `give_up` dequeue in the one
that revises it. Whoever claims an escalation holds a lease; `claims` is the fence: the word of a worker whose lease
ended, and whose escalation another has claimed since, is not heard.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, Text, cast, func, or_, select, update

from monitor.domain.errors import InvalidMessage
from monitor.domain.judgement import CouldNotJudge, Judgement
from monitor.domain.verdict import Assessment, Verdict
from monitor.storage.engine import retry_conflicts, snapshot, transaction
from monitor.storage.revision import revise
from monitor.storage.storable import storable
from monitor.storage.tables import escalations, in_seconds
from monitor.wire import decode_assessment

logger = logging.getLogger(__name__)

_MAX_ERROR_CHARACTERS = 2000
_UNREADABLE_RETRY_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Escalation:
    """A claimed escalation.

    Attributes:
        assessment: what the local judges said, with the trace: the pool needs nothing else.
        attempts: how often it was tried, this time included; a worker that vanished counts as a try.
        claims: the fence.
        waited_since: when it was enqueued.
    """

    id: int
    assessment: Assessment
    attempts: int
    claims: int
    waited_since: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueDepth:
    """How many escalations wait, how many are being worked on, and since when the oldest of them waits."""

    waiting: int
    claimed: int
    oldest: datetime | None


class EscalationQueue:
    """A prioritised queue with leases. The database's clock alone decides what is due."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def claim(self, limit: int, *, lease_seconds: float) -> list[Escalation]:
        """Take up to `limit` escalations that are due, the most urgent first, then the oldest.

        Several workers claim side by side without waiting for each other, and never the same one.

        Raises:
            LedgerUnavailable: none was claimed.
        """
        due = (
            select(escalations.c.id)
            .where(escalations.c.state.in_(("waiting", "claimed")), escalations.c.available_at <= func.now())
            .order_by(escalations.c.priority, escalations.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        take = (
            update(escalations)
            .where(escalations.c.id.in_(due.scalar_subquery()))
            .values(
                state="claimed",
                attempts=escalations.c.attempts + 1,
                claims=escalations.c.claims + 1,
                available_at=in_seconds(lease_seconds),
            )
            .returning(
                *escalations.c["id", "attempts", "claims", "created_at", "priority"],
                # Text, not a parsed value: it is decoded against its contract.
                cast(escalations.c.assessment, Text).label("assessment"),
            )
        )
        with transaction(self._engine) as connection:
            rows = sorted(connection.execute(take).all(), key=lambda row: (row.priority, row.id))
        claimed = (self._read(row) for row in rows)
        return [escalation for escalation in claimed if escalation is not None]

    def complete(
        self, escalation: Escalation, judgement: Judgement, outcome: Verdict | CouldNotJudge, *, at: datetime
    ) -> bool:
        """Keep the pool's judgement, and revise verdict, accounting and rollups, in one transaction.

        Args:
            escalation: as claimed.
            judgement: the pool's.
            outcome: what all judgements together come to. A trace that has a verdict keeps it when this is none;
                one that had none becomes unjudged.
            at: when the pool judged.

        Returns:
            False, with nothing changed, when the lease was lost to another worker.

        Raises:
            LedgerUnavailable: nothing was changed; try again.
            LedgerRefused: Postgres will never store this judgement.
        """

        def work() -> bool:
            with transaction(self._engine) as connection:
                if not _finish(connection, escalation, state="done"):
                    return False
                revise(connection, escalation.assessment, judgement=judgement, outcome=outcome, at=at)
                return True

        return retry_conflicts(work)

    def give_up(self, escalation: Escalation, failure: CouldNotJudge, *, at: datetime) -> bool:
        """The pool will never judge it: a verdict stays as it is, a trace without one becomes unjudged.

        Returns and raises as `complete` does.
        """

        def work() -> bool:
            with transaction(self._engine) as connection:
                error = storable(f"{failure.reason.value}: {failure.detail}")[:_MAX_ERROR_CHARACTERS]
                if not _finish(connection, escalation, state="given_up", last_error=error):
                    return False
                revise(connection, escalation.assessment, judgement=None, outcome=failure, at=at)
                return True

        return retry_conflicts(work)

    def put_back(self, escalation: Escalation, *, error: str, retry_seconds: float, counted: bool = True) -> bool:
        """Let it be claimed again after `retry_seconds`.

        Args:
            escalation: as claimed.
            error: why, for operators.
            retry_seconds: how long nobody gets it.
            counted: False forgets this attempt: it was not the trace's fault.

        Returns:
            False when the lease was lost to another worker.
        """
        change = {
            "state": "waiting",
            "available_at": in_seconds(retry_seconds),
            "attempts": escalations.c.attempts - (0 if counted else 1),
            "last_error": storable(error)[:_MAX_ERROR_CHARACTERS],
        }
        with transaction(self._engine) as connection:
            return _change(connection, escalation, **change)

    def depth(self) -> QueueDepth:
        """How full the queue is. An escalation whose lease is over counts as waiting."""
        working = (escalations.c.state == "claimed") & (escalations.c.available_at > func.now())
        query = select(
            func.count().filter(~working).label("waiting"),
            func.count().filter(working).label("claimed"),
            func.min(escalations.c.created_at).label("oldest"),
        ).where(or_(escalations.c.state == "waiting", escalations.c.state == "claimed"))
        with snapshot(self._engine) as connection:
            row = connection.execute(query).one()
        return QueueDepth(waiting=row.waiting, claimed=row.claimed, oldest=row.oldest)

    def _read(self, row: Any) -> Escalation | None:
        try:
            assessment = decode_assessment(row.assessment.encode())
        except InvalidMessage as error:
            # Written by another release. It waits for one that can read it; it is not lost.
            logger.error("an escalation cannot be read", extra={"escalation": row.id, "error": str(error)})  # noqa: TRY400 - the message says all
            self._postpone(row.id, row.claims, str(error))
            return None
        return Escalation(
            id=row.id,
            assessment=assessment,
            attempts=row.attempts,
            claims=row.claims,
            waited_since=row.created_at,
        )

    def _postpone(self, number: int, claims: int, error: str) -> None:
        with transaction(self._engine) as connection:
            connection.execute(
                update(escalations)
                .where(escalations.c.id == number, escalations.c.claims == claims)
                .values(
                    state="waiting",
                    available_at=in_seconds(_UNREADABLE_RETRY_SECONDS),
                    last_error=storable(error)[:_MAX_ERROR_CHARACTERS],
                )
            )


def _finish(connection: Connection, escalation: Escalation, **values: Any) -> bool:
    # The payload has done its work; only the record that it was here stays.
    return _change(connection, escalation, assessment=None, finished_at=func.now(), **values)


def _change(connection: Connection, escalation: Escalation, **values: Any) -> bool:
    held = (
        escalations.c.id == escalation.id,
        escalations.c.state == "claimed",
        escalations.c.claims == escalation.claims,
    )
    changed: CursorResult[Any] = connection.execute(update(escalations).where(*held).values(**values))
    return changed.rowcount == 1
