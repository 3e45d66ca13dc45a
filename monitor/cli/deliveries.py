"""`groundwatch alerts deliveries`, `redeliver` and `test`: what became of the messages about alerts."""

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from monitor.alerts.message import message_of
from monitor.alerts.sealing import Destination, Sealer, destination_of
from monitor.alerts.services import Services, is_service
from monitor.alerts.webhook import MAX_ANSWER_BYTES, Webhook
from monitor.cli.console import plain_table, wide_console
from monitor.cli.ledger import ledger
from monitor.config import AlertSettings, load_settings
from monitor.domain.alert import Alarm, Alert, AlertState, Direction, Severity
from monitor.domain.errors import InvalidInput
from monitor.domain.trace import Segment
from monitor.outbound import AsyncHttpClient
from monitor.storage.outbox import DeliveryState, find_deliveries
from monitor.storage.outbox import redeliver as try_again
from monitor.storage.subscriptions import Subscription, find_subscriptions
from monitor.wire import alert_to_json


def register(alerts: typer.Typer) -> None:
    """Add the commands to those of `alerts`."""
    alerts.command()(deliveries)
    alerts.command()(redeliver)
    alerts.command(name="test")(send_test)


def deliveries(
    *,
    state: Annotated[
        list[DeliveryState] | None, typer.Option(help="Only deliveries in this state; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List what was, or is to be, sent about alerts; `--state dead` is what was given up."""
    with ledger() as engine:
        found = find_deliveries(engine, states=state or tuple(DeliveryState), limit=limit)
    if as_json:
        for one in found:
            typer.echo(json.dumps(asdict(one), default=str))
        return
    table = plain_table(["id", "alert", "to", "state", "created"], ["attempts"])
    table.add_column("error", overflow="fold")
    for one in found:
        when = f"{one.created_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(str(one.id), one.alert_id, one.shown, one.state, when, str(one.attempts), one.error or "")
    wide_console().print(table)


def redeliver(
    ids: Annotated[list[int] | None, typer.Argument(help="As `deliveries` shows them.", show_default=False)] = None,
    *,
    dead: Annotated[bool, typer.Option("--dead", help="All that were given up.")] = False,
) -> None:
    """Try deliveries again that were given up, once the receiver is mended. Their delivery ids stay the same."""
    if bool(ids) == dead:
        raise InvalidInput("name the deliveries, or all of them with --dead")
    with ledger() as engine:
        count = try_again(engine, None if dead else ids)
    if ids and count < len(ids):
        raise InvalidInput(f"{len(ids) - count} of {len(ids)} were not among the dead; {count} will be tried again")
    typer.echo(f"{count} will be tried again")


def send_test(
    subscription_id: Annotated[str, typer.Argument(help="As `subscriptions` shows it.")],
) -> None:
    """Send an example alert to one subscriber now, marked `"test": true`, and say whether it was taken."""
    settings = load_settings().alerts
    with ledger() as engine:
        found = {each.subscription_id: each for each in find_subscriptions(engine)}
    if subscription_id not in found:
        raise InvalidInput(f"there is no subscription {subscription_id!r}; see groundwatch alerts subscriptions")
    subscription = found[subscription_id]
    destination = destination_of(subscription, Sealer(settings.encryption_keys))
    asyncio.run(_post(destination, {**alert_to_json(_example(subscription)), "test": True}, settings))
    typer.echo(f"{destination.shown} took it")


async def _post(destination: Destination, payload: dict[str, Any], settings: AlertSettings) -> None:
    seconds = settings.deadline_seconds
    if is_service(destination.url):
        services = Services(allow_private=settings.allow_private_targets, deadline_seconds=seconds)
        await services.send(destination.url, message_of(payload))
        return
    async with AsyncHttpClient(
        deadline_seconds=seconds, max_answer_bytes=MAX_ANSWER_BYTES, reuse_connections=False
    ) as client:
        webhook = Webhook(client, allow_private=settings.allow_private_targets, deadline_seconds=seconds)
        await webhook.post(
            destination.url, payload, secret=destination.secret, delivery_id="test", now=datetime.now(UTC)
        )


def _example(subscription: Subscription) -> Alert:
    now = datetime.now(UTC)
    segment = Segment(
        tenant=subscription.tenant,
        service=subscription.service or "example-service",
        environment=subscription.environment or "production",
    )
    alarm = Alarm(
        event_time=now,
        change_at=now - timedelta(minutes=12),
        change_earliest=now - timedelta(minutes=15),
        change_latest=now - timedelta(minutes=10),
        direction=Direction.RISE,
        evidence=10.2,
        rate_before=0.05,
        rate_after=0.12,
        verdicts_seen=4200,
        delay_verdicts=240,
    )
    return Alert(
        alert_id="test",
        segment=segment,
        evaluator="faithfulness",
        judge_version="test",
        alarm=alarm,
        state=AlertState.FIRING,
        raised_at=now,
        average_run_length=20_000,
        severity=Severity.CRITICAL,
    )
