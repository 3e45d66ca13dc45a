"""The outbox: deliveries of alerts, written with the alert itself, made at least once, in their own time.

A claim is a lease: a delivery whose worker vanished becomes claimable again once its lease is over. `attempts`
is the fence: what a worker says about a delivery that another has claimed since is ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, literal, null, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from monitor.domain.alert import Alert, AlertState, Severity
from monitor.domain.lifecycle import Told
from monitor.domain.trace import Slice
from monitor.storage.engine import snapshot, transaction
from monitor.storage.storable import storable
from monitor.storage.subscriptions import Subscription, to_subscription
from monitor.storage.tables import in_seconds, outbox, subscriptions
from monitor.wire import alert_to_json

KAFKA = "kafka"

_MAX_ERROR_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One alert to be delivered over one channel.

    Attributes:
        channel: `kafka`, or the subscription's.
        payload: `alert.v1`, as the alert stood when this was enqueued.
        attempts: how often it has been claimed, this time included.
        subscription: whose it is; None for Kafka.
    """

    id: int
    alert_id: str
    channel: str
    payload: Mapping[str, Any]
    attempts: int
    subscription: Subscription | None


class DeliveryState(StrEnum):
    """Where a delivery is."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    SUPERSEDED = "superseded"
    """Not made: a later one says the same and more."""
    DEAD = "dead"
    """Given up: refused for good, or tried too often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryRecord:
    """One delivery as the outbox has it.

    Attributes:
        shown: where it goes, without anything secret; `kafka` for the topic.
        attempts: how often it was tried.
        error: what the last attempt ended with, where it failed.
    """

    id: int
    alert_id: str
    shown: str
    state: DeliveryState
    attempts: int
    error: str | None
    created_at: datetime
    finished_at: datetime | None


def enqueue(connection: Connection, alert: Alert, *, told: Told, silenced: bool) -> None:
    """Add the deliveries to those who are told: to Kafka, to each subscription that covers it.

    Where it supersedes what still waits to tell a subscriber of the same state, one that was down is told once.
    """
    message = alert_to_json(alert, notification=told.notification, silenced=silenced)
    payload = literal(message, outbox.c.payload.type)
    columns = ["alert_id", "channel", "subscription_id", "payload"]
    if told.record:
        connection.execute(
            insert(outbox).from_select(columns, select(literal(alert.alert_id), literal(KAFKA), null(), payload))
        )
    if not told.subscriptions:
        return
    segment = alert.segment
    severe_enough = list(Severity)[: list(Severity).index(alert.severity) + 1]
    to_each = (literal(alert.alert_id), subscriptions.c.channel, subscriptions.c.subscription_id, payload)
    covering = select(*to_each).where(
        subscriptions.c.tenant == segment.tenant,
        or_(subscriptions.c.service.is_(None), subscriptions.c.service == segment.service),
        or_(subscriptions.c.environment.is_(None), subscriptions.c.environment == segment.environment),
        subscriptions.c.least_severity.in_([severity.value for severity in severe_enough]),
        or_(subscriptions.c.cause.is_(None), *_concerned(alert)),
    )
    if told.supersedes:
        _supersede(connection, alert)
    connection.execute(insert(outbox).from_select(columns, covering))


def _concerned(alert: Alert) -> list[ColumnElement[bool]]:
    """Who listens for a cause hears of what has it, and all further news of what they have heard of."""
    has_heard = subscriptions.c.subscription_id.in_(
        select(outbox.c.subscription_id).where(outbox.c.alert_id == alert.alert_id)
    )
    # An end is news only to those who know of a beginning.
    begins = [] if alert.state is AlertState.RESOLVED else [subscriptions.c.cause.in_(_causes(alert))]
    return [has_heard, *begins]


def _causes(alert: Alert) -> list[str]:
    named = [Slice(dimension=cause.dimension, value=cause.value) for cause in alert.explanation.causes]
    return [storable(str(part)) for part in (*named, *([alert.part] if alert.part else []))]


def _supersede(connection: Connection, alert: Alert) -> None:
    older = (
        outbox.c.alert_id == alert.alert_id,
        outbox.c.channel != KAFKA,
        outbox.c.state == DeliveryState.WAITING.value,
        outbox.c.payload["state"].as_string() == alert.state.value,
    )
    connection.execute(
        update(outbox).where(*older).values(state=DeliveryState.SUPERSEDED.value, finished_at=func.now())
    )


def claim_deliveries(engine: Engine, *, limit: int, lease_seconds: float) -> list[Delivery]:
    """Take up to `limit` deliveries that are due, oldest first; no one else gets them before the lease is over.

    Raises:
        LedgerUnavailable: none was claimed.
    """
    due = (
        select(outbox.c.id)
        .where(outbox.c.state == DeliveryState.WAITING.value, outbox.c.next_at <= func.now())
        .order_by(outbox.c.next_at, outbox.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    claim = (
        update(outbox)
        .where(outbox.c.id.in_(due.scalar_subquery()))
        .values(attempts=outbox.c.attempts + 1, next_at=in_seconds(lease_seconds))
        .returning(outbox)
    ).cte("claimed")
    query = (
        select(claim, subscriptions)
        .select_from(claim.outerjoin(subscriptions, claim.c.subscription_id == subscriptions.c.subscription_id))
        .order_by(claim.c.id)
    )
    with transaction(engine) as connection:
        rows = connection.execute(query).mappings().all()
    return [
        Delivery(
            id=row[claim.c.id],
            alert_id=row[claim.c.alert_id],
            channel=row[claim.c.channel],
            payload=row[claim.c.payload],
            attempts=row[claim.c.attempts],
            subscription=to_subscription(row) if row[claim.c.subscription_id] else None,
        )
        for row in rows
    ]


def find_deliveries(
    engine: Engine, *, states: Sequence[DeliveryState] = tuple(DeliveryState), limit: int = 1000
) -> list[DeliveryRecord]:
    """The newest deliveries in one of these states, newest first."""
    query = (
        select(outbox, subscriptions)
        .select_from(outbox.outerjoin(subscriptions, outbox.c.subscription_id == subscriptions.c.subscription_id))
        .where(outbox.c.state.in_([state.value for state in states]))
        .order_by(outbox.c.id.desc())
        .limit(limit)
    )
    with snapshot(engine) as connection:
        rows = connection.execute(query).mappings().all()
    return [
        DeliveryRecord(
            id=row[outbox.c.id],
            alert_id=row[outbox.c.alert_id],
            shown=to_subscription(row).shown if row[outbox.c.subscription_id] else row[outbox.c.channel],
            state=DeliveryState(row[outbox.c.state]),
            attempts=row[outbox.c.attempts],
            error=row[outbox.c.last_error],
            created_at=row[outbox.c.created_at],
            finished_at=row[outbox.c.finished_at],
        )
        for row in rows
    ]


def redeliver(engine: Engine, ids: Sequence[int] | None = None) -> int:
    """Let deliveries that were given up be tried again, as if for the first time; all of them where no ids are given.

    Returns:
        How many there were.
    """
    change = (
        update(outbox)
        .where(outbox.c.state == DeliveryState.DEAD.value)
        .values(state=DeliveryState.WAITING.value, attempts=0, next_at=func.now(), finished_at=None)
    )
    if ids is not None:
        change = change.where(outbox.c.id.in_(ids))
    with transaction(engine) as connection:
        return connection.execute(change).rowcount


def mark_delivered(engine: Engine, delivery: Delivery) -> bool:
    """The other side has it. False when another worker has claimed it since: it may get it twice."""
    return _finish(engine, delivery, state=DeliveryState.DELIVERED.value, finished_at=func.now(), last_error=None)


def mark_failed(engine: Engine, delivery: Delivery, *, error: str, retry_seconds: float | None) -> bool:
    """It did not arrive: try again after `retry_seconds`, or never when None. False as for `mark_delivered`."""
    shown = storable(error)[:_MAX_ERROR_CHARACTERS]
    if retry_seconds is None:
        return _finish(engine, delivery, state=DeliveryState.DEAD.value, finished_at=func.now(), last_error=shown)
    return _finish(engine, delivery, next_at=in_seconds(retry_seconds), last_error=shown)


def _finish(engine: Engine, delivery: Delivery, **values: Any) -> bool:
    change = (
        update(outbox)
        .where(
            outbox.c.id == delivery.id,
            outbox.c.state == DeliveryState.WAITING.value,
            outbox.c.attempts == delivery.attempts,
        )
        .values(**values)
    )
    with transaction(engine) as connection:
        return connection.execute(change).rowcount == 1
