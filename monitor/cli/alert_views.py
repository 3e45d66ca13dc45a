"""`groundwatch alerts list` and `show`: which alerts there are, and how each came to its state."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from monitor.cli.console import plain_table, printable, wide_console
from monitor.cli.ledger import ledger
from monitor.domain.alert import Alert, AlertState
from monitor.domain.errors import InvalidInput
from monitor.storage.alerts import AlertHistory, Transition, find_alerts_and_silenced, find_history
from monitor.wire import alert_to_json

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def register(alerts: typer.Typer) -> None:
    """Add the commands to those of `alerts`."""
    alerts.command(name="list")(list_)
    alerts.command()(show)


def list_(
    *,
    state: Annotated[list[AlertState] | None, typer.Option(help="Only alerts in this state; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """List alerts, the newest first."""
    with ledger() as engine:
        found = find_alerts_and_silenced(engine, states=state or tuple(AlertState))
    if as_json:
        for alert, silenced in found:
            typer.echo(json.dumps(_shown(alert, silenced=silenced), ensure_ascii=False))
        return
    words = ("alert", "state", "severity", "segment", "raised by", "changed at", "before", "after", "delay", "reopened")
    table = Table(*words, "silenced")
    for alert, silenced in found:
        alarm = alert.alarm
        table.add_row(
            alert.alert_id,
            alert.state.value,
            alert.severity.value,
            printable(alert.subject),
            f"{alarm.event_time:%Y-%m-%d %H:%M}",
            f"{alarm.change_at:%Y-%m-%d %H:%M}",
            f"{alarm.rate_before:.1%}",
            f"{alarm.rate_after:.1%}",
            f"{alarm.delay_verdicts} verdicts",
            str(alert.reopened) if alert.reopened else "",
            "silenced" if silenced else "",
        )
    wide_console().print(table)


def show(
    alert_id: Annotated[str, typer.Argument(help="As `list` shows it.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show one alert with all that happened to it, oldest first."""
    with ledger() as engine:
        history = find_history(engine, alert_id)
    if history is None:
        raise InvalidInput(f"there is no alert {alert_id!r}; see groundwatch alerts list")
    if as_json:
        steps = [{**asdict(step), "at": step.at.isoformat()} for step in history.transitions]
        typer.echo(
            json.dumps({**_shown(history.alert, silenced=history.silenced), "transitions": steps}, ensure_ascii=False)
        )
        return
    typer.echo(_headline(history))
    table = plain_table(["at", "state", "by"], [])
    table.add_column("note", overflow="fold")
    for step in history.transitions:
        table.add_row(f"{step.at:%Y-%m-%d %H:%M:%S}", _moved(step), printable(step.actor), printable(step.note))
    wide_console().print(table, markup=False)


def _shown(alert: Alert, *, silenced: bool) -> dict[str, Any]:
    message = alert_to_json(alert, silenced=silenced)
    del message["notification"]
    return message


def _headline(history: AlertHistory) -> str:
    alert = history.alert
    silenced = ", silenced" if history.silenced else ""
    reopened = f", reopened {alert.reopened} times" if alert.reopened else ""
    return (
        f"{alert.alert_id}: {printable(alert.subject)}, "
        f"{alert.severity.value}, {alert.state.value}{silenced}{reopened}\n"
        f"{alert.alarm.rate_before:.1%} before, {alert.alarm.rate_after:.1%} since "
        f"{alert.alarm.change_at:%Y-%m-%d %H:%M}, judged by {alert.judge_version}\n"
    )


def _moved(step: Transition) -> str:
    if step.before is None or step.before is step.after:
        return step.after.value
    return f"{step.before.value} → {step.after.value}"
