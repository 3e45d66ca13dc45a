"""Who wants to hear of alerts, by segment: webhooks, and services such as Slack or mail."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine, delete, insert, select, update

from monitor.domain.alert import Severity
from monitor.storage.engine import snapshot, transaction
from monitor.storage.tables import subscriptions


class Channel(StrEnum):
    """How a subscriber is spoken to."""

    WEBHOOK = "webhook"
    """`alert.v1` as JSON, signed."""
    SERVICE = "service"
    """A message for people, by Slack, mail or the like."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """A subscriber that hears of one tenant's alerts.

    Attributes:
        service, environment: only alerts of this one; None hears all.
        least_severity: only alerts at least as severe.
        cause: only alerts that this slice explains, as `dimension=value`; None hears all.
        shown: where it is, for people: without anything secret.
        sealed: URL and signing secret, which `alerts.sealing` opens.
        plain: both as an earlier release kept them; None where they are sealed.
    """

    subscription_id: str
    tenant: str
    service: str | None
    environment: str | None
    least_severity: Severity = Severity.WARNING
    cause: str | None = None
    channel: Channel = Channel.WEBHOOK
    shown: str
    sealed: bytes | None = field(default=None, repr=False)
    plain: tuple[str, str | None] | None = field(default=None, repr=False)
    created_at: datetime


def subscribe(
    engine: Engine,
    *,
    tenant: str,
    shown: str,
    sealed: bytes,
    service: str | None = None,
    environment: str | None = None,
    least_severity: Severity = Severity.WARNING,
    cause: str | None = None,
    channel: Channel = Channel.WEBHOOK,
) -> Subscription:
    """Add a subscriber. It hears of alerts raised, or changed, from now on.

    Whether its URL may be called at all is for the caller to say.
    """
    change = (
        insert(subscriptions)
        .values(
            subscription_id=secrets.token_hex(8),
            tenant=tenant,
            service=service,
            environment=environment,
            least_severity=least_severity.value,
            cause=cause,
            channel=channel.value,
            url=shown,
            sealed=sealed,
        )
        .returning(subscriptions)
    )
    with transaction(engine) as connection:
        return to_subscription(connection.execute(change).mappings().one())


def unsubscribe(engine: Engine, subscription_id: str) -> bool:
    """Remove a subscriber with the deliveries that wait for it; False when there is none with this id."""
    with transaction(engine) as connection:
        gone = connection.execute(delete(subscriptions).where(subscriptions.c.subscription_id == subscription_id))
        return gone.rowcount == 1


def find_subscriptions(engine: Engine, *, tenant: str | None = None) -> list[Subscription]:
    """All subscribers, or one tenant's, oldest first."""
    query = select(subscriptions).order_by(subscriptions.c.created_at, subscriptions.c.subscription_id)
    if tenant is not None:
        query = query.where(subscriptions.c.tenant == tenant)
    with snapshot(engine) as connection:
        return [to_subscription(row) for row in connection.execute(query).mappings()]


def reseal(engine: Engine, subscription: Subscription, *, shown: str, sealed: bytes) -> None:
    """Keep a subscriber's destination under another seal, and nothing of it in plain text."""
    change = update(subscriptions).where(subscriptions.c.subscription_id == subscription.subscription_id)
    with transaction(engine) as connection:
        connection.execute(change.values(url=shown, secret=None, sealed=sealed))


def to_subscription(row: Mapping[Any, Any]) -> Subscription:
    """The columns of `subscriptions` in a row, as an object."""
    columns = subscriptions.c
    return Subscription(
        subscription_id=row[columns.subscription_id],
        tenant=row[columns.tenant],
        service=row[columns.service],
        environment=row[columns.environment],
        least_severity=Severity(row[columns.least_severity]),
        cause=row[columns.cause],
        channel=Channel(row[columns.channel]),
        shown=row[columns.url] if row[columns.sealed] else "(not sealed yet)",
        sealed=row[columns.sealed],
        plain=None if row[columns.sealed] else (row[columns.url], row[columns.secret]),
        created_at=row[columns.created_at],
    )
