"""`groundwatch alerts`: who hears of alerts, and which there are."""

import getpass
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from monitor.alerts.sealing import Destination, Sealer, new_key
from monitor.alerts.services import check_service, is_service
from monitor.alerts.targets import check_url
from monitor.cli import alert_views, deliveries, silences
from monitor.cli.console import wide_console
from monitor.cli.ledger import ledger
from monitor.config import load_settings
from monitor.domain.alert import AlertState, Severity
from monitor.domain.errors import InvalidInput
from monitor.storage.alerts import change_state
from monitor.storage.subscriptions import Channel, Subscription, find_subscriptions, unsubscribe
from monitor.storage.subscriptions import subscribe as add_subscription

app = typer.Typer(no_args_is_help=True, help="Alerts, and who hears of them.")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

alert_views.register(app)
deliveries.register(app)
silences.register(app)


def register(root: typer.Typer) -> None:
    """Add the `alerts` commands."""
    root.add_typer(app, name="alerts")


@app.command()
def subscribe(
    url: Annotated[str, typer.Argument(help="Where alerts go: an http(s) webhook, or a service such as slack://…")],
    *,
    tenant: Annotated[str, typer.Option(help="Whose alerts.")] = "default",
    service: Annotated[str | None, typer.Option(help="Only this service's.")] = None,
    environment: Annotated[str | None, typer.Option(help="Only this environment's.")] = None,
    severity: Annotated[Severity, typer.Option(help="Only alerts at least as severe.")] = Severity.WARNING,
    cause: Annotated[
        str | None, typer.Option(metavar="DIMENSION=VALUE", help="Only alerts that this slice of the traffic explains.")
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option(help="File with the secret that signs deliveries; `-` is standard input.")
    ] = None,
) -> None:
    """Send a tenant's alerts to a webhook or a service from now on, and print the subscription's id.

    A webhook gets `alert.v1` as JSON, signed. Services get a message for people, by an Apprise URL
    (appriseit.com/services shows how each is written): betterstack, discord, gchat, incidentio, mailto(s), mmost(s),
    ntfys, opsgenie, pagerduty, pover, rockets, slack, splunk, squadcast, tgram, webex, workflows (Microsoft Teams),
    zulip.

    URL and secret are sealed with the first of alerts.encryption_keys, which the alert worker needs, too.
    """
    channel = Channel.SERVICE if is_service(url) else Channel.WEBHOOK
    (check_service if channel is Channel.SERVICE else check_url)(url)
    if channel is Channel.SERVICE and secret_file is not None:
        raise InvalidInput("--secret-file: only webhooks are signed")
    if cause is not None and not all(cause.partition("=")):
        raise InvalidInput(f"--cause {cause!r}: should be DIMENSION=VALUE, such as prompt_version=v7")
    destination = Destination(url=url, secret=_secret(secret_file))
    sealed = Sealer(load_settings().alerts.encryption_keys).seal(destination)
    with ledger() as engine:
        added = add_subscription(
            engine,
            tenant=tenant,
            shown=destination.shown,
            sealed=sealed,
            service=service,
            environment=environment,
            least_severity=severity,
            cause=cause,
            channel=channel,
        )
    typer.echo(added.subscription_id)


@app.command()
def key() -> None:
    """Make a key for alerts.encryption_keys. Keep it outside the ledger: with it, webhooks' secrets can be read."""
    typer.echo(new_key())


@app.command(name="unsubscribe")
def unsubscribe_(subscription_id: Annotated[str, typer.Argument(help="As `subscribe` printed it.")]) -> None:
    """Remove a subscription, with the deliveries that still wait for it."""
    with ledger() as engine:
        if not unsubscribe(engine, subscription_id):
            raise InvalidInput(f"there is no subscription {subscription_id!r}")


@app.command()
def subscriptions(*, as_json: AsJson = False) -> None:
    """List who hears of alerts. Neither their paths nor their secrets are shown."""
    with ledger() as engine:
        found = find_subscriptions(engine)
    if as_json:
        for subscription in found:
            typer.echo(json.dumps(_shown(subscription)))
        return
    table = Table(*_shown(found[0]) if found else ("no subscriptions",))
    for subscription in found:
        table.add_row(*(str(value) if value is not None else "all" for value in _shown(subscription).values()))
    wide_console().print(table)


AlertId = Annotated[str, typer.Argument(help="As `list` shows it.")]
Note = Annotated[str, typer.Option(help="Why; kept with the transition and sent with it.")]
Actor = Annotated[str | None, typer.Option(help="By whom; your user name when absent.")]


@app.command()
def ack(alert_id: AlertId, *, note: Note = "", actor: Actor = None) -> None:
    """Say that someone is on it. The alert stays open until the rate comes back, or it is resolved."""
    _change(alert_id, AlertState.ACKNOWLEDGED, note, actor)


@app.command()
def resolve(alert_id: AlertId, *, note: Note = "", actor: Actor = None) -> None:
    """Close an alert by hand. The detector goes on as before."""
    _change(alert_id, AlertState.RESOLVED, note, actor)


def _change(alert_id: str, state: AlertState, note: str, actor: str | None) -> None:
    by = actor or getpass.getuser()
    with ledger() as engine:
        alert = change_state(engine, alert_id, state, at=datetime.now(UTC), actor=by, note=note)
    if alert is None:
        raise InvalidInput(f"there is no alert {alert_id!r}; see groundwatch alerts list")
    typer.echo(f"{alert.alert_id} is {alert.state.value}")


def _secret(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None
    secret = text.strip()
    if not secret:
        raise InvalidInput("the secret is empty")
    return secret


def _shown(subscription: Subscription) -> dict[str, Any]:
    return {
        "subscription_id": subscription.subscription_id,
        "tenant": subscription.tenant,
        "service": subscription.service,
        "environment": subscription.environment,
        "least_severity": subscription.least_severity.value,
        "cause": subscription.cause,
        "channel": subscription.channel.value,
        "to": subscription.shown,
        "created_at": subscription.created_at.isoformat(),
    }
