"""`groundwatch alerts silence`, `silences` and `unsilence`: times in which nobody is to be told."""

import getpass
import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from monitor.cli.console import plain_table, wide_console
from monitor.cli.durations import duration
from monitor.cli.ledger import ledger
from monitor.domain.errors import InvalidInput
from monitor.storage.silences import LONGEST, Silence, add_silence, end_silence, find_silences

_MINUTE = "%Y-%m-%d %H:%M"

Actor = Annotated[str | None, typer.Option(help="By whom; your user name when absent.")]


def register(alerts: typer.Typer) -> None:
    """Add the commands to those of `alerts`."""
    alerts.command()(silence)
    alerts.command()(silences)
    alerts.command()(unsilence)


def silence(
    *,
    tenant: Annotated[str, typer.Option(help="Whose alerts.")] = "default",
    service: Annotated[str | None, typer.Option(help="Only this service's.")] = None,
    environment: Annotated[str | None, typer.Option(help="Only this environment's.")] = None,
    lasting: Annotated[str | None, typer.Option("--for", help="How long, from now or --from on: 2h, 1d12h.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="When it begins, ISO 8601, UTC; now when absent.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="When it ends, ISO 8601, UTC.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the silence.")],
    actor: Actor = None,
) -> None:
    """Keep alerts from subscriptions for a time, and print the silence's id. What fires at its end is sent then."""
    if (lasting is None) == (until is None):
        raise InvalidInput("say how long with --for 2h, or until when with --until; one of the two")
    if not reason.strip():
        raise InvalidInput("--reason: say why, for whoever finds the silence")
    now = datetime.now(UTC)
    starts_at = _moment(start, "--from") if start is not None else now
    ends_at = _after(starts_at, lasting) if lasting is not None else _moment(until or "", "--until")
    with ledger() as engine:
        made = add_silence(
            engine,
            tenant=tenant,
            service=service,
            environment=environment,
            starts_at=starts_at,
            ends_at=ends_at,
            reason=reason.strip(),
            created_by=actor or getpass.getuser(),
            now=now,
        )
    typer.echo(made.silence_id)


def silences(
    *,
    past: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the silences that hold or are to come."""
    with ledger() as engine:
        found = find_silences(engine, past=past)
    if as_json:
        for one in found:
            shown = {name: _iso(value) for name, value in asdict(one).items()}
            typer.echo(json.dumps(shown, ensure_ascii=False))
        return
    table = plain_table(["silence", "of", "from", "until", "by"], [])
    table.add_column("reason", overflow="fold")
    for one in found:
        times = (f"{one.starts_at:{_MINUTE}}", f"{one.ended_at or one.ends_at:{_MINUTE}}")
        table.add_row(one.silence_id, _covered(one), *times, one.created_by, one.reason)
    wide_console().print(table, markup=False)


def unsilence(
    silence_id: Annotated[str, typer.Argument(help="As `silence` printed it.")],
    *,
    actor: Actor = None,
) -> None:
    """End a silence now. What fires is sent by the alert worker's next look."""
    with ledger() as engine:
        if not end_silence(engine, silence_id, ended_by=actor or getpass.getuser()):
            problem = f"there is no silence {silence_id!r} that holds or is to come; see groundwatch alerts silences"
            raise InvalidInput(problem)


def _after(start: datetime, text: str) -> datetime:
    total = duration(text, "--for")
    if not timedelta() < total <= LONGEST:
        raise InvalidInput(
            f"--for: {text!r} is out of range; a silence takes more than 0 and at most {LONGEST.days} days"
        )
    return min(start, datetime.max.replace(tzinfo=UTC) - LONGEST) + total


def _moment(text: str, option: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        # Without a zone it is UTC, as everything here is.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{option}: {text!r} is no time such as 2026-01-31T22:00 (UTC, unless it says +01:00)"
        ) from None


def _covered(one: Silence) -> str:
    return "/".join((one.tenant, one.service or "all", one.environment or "all"))


def _iso(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
