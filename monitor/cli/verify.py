"""`groundwatch verify`: whether what is counted still says what the rows say."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from monitor.cli.console import progress
from monitor.cli.moments import moment
from monitor.config import load_settings
from monitor.domain.errors import InvalidInput
from monitor.storage.engine import create_ledger_engine
from monitor.storage.recount import Difference
from monitor.storage.verifying import Verification

_DIFFERENT = 1
_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add `verify`."""
    app.command()(verify)


def verify(
    *,
    since: Annotated[
        str | None, typer.Option(help="From this day of event time on: 2026-03-01, or 30d for so long ago.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to this day of event time, without it.")] = None,
    patience: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds that counting one day may take in Postgres.")
    ] = 600.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Count verdicts, judgements and receipts again, and name every rollup or counter that says otherwise.

    It changes nothing and may run while workers write. A day is one snapshot, so that years need not be read at
    once; --since and --until are widened to whole UTC days. Receipts know no event time: accounting is always recounted
    whole, and the outcome of each record is held against its trace's only without --since and --until.

    Exits with 1 when something differs.
    """
    now = datetime.now(UTC)
    begin, end = moment(since, "--since", now=now), moment(until, "--until", now=now)
    if begin is not None and end is not None and begin >= end:
        raise InvalidInput("--since is not before --until: nothing to verify")
    postgres = load_settings().postgres.model_copy(update={"statement_timeout_seconds": patience})
    engine = create_ledger_engine(postgres, application_name="groundwatch-verify", pool_size=1)
    try:
        verification = Verification(engine, since=begin, until=end)
        found: list[Difference] = []
        with progress("recounting", len(verification), 0) as step:
            for done in verification.steps():
                found += done.differences
                if done.differences:
                    typer.echo(f"{done.about}: {len(done.differences):,} differ", err=True)
                step()
    finally:
        engine.dispose()
    if as_json:
        value = {"days": len(verification.days), "differences": [asdict(one) for one in found]}
        typer.echo(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        _print(found, len(verification.days))
    if found:
        raise typer.Exit(_DIFFERENT)


def _print(found: list[Difference], days: int) -> None:
    for one in found[:_SHOWN]:
        typer.echo(f"{one.table} {one.key}: {_difference(one.stored, one.counted)}")
    if len(found) > _SHOWN:
        typer.echo(f"and {len(found) - _SHOWN:,} more; --json has them all")
    typer.echo(f"{days:,} days recounted: " + (f"{len(found):,} rows differ" if found else "all as the rows say"))


def _difference(stored: dict[str, Any] | None, counted: dict[str, Any] | None) -> str:
    if stored is None:
        return "missing; the rows say that there is one"
    if counted is None:
        return "there, and no rows under it"
    changed = [name for name in counted if stored.get(name) != counted[name]]
    return ", ".join(f"{name} {stored.get(name)}, counted {counted[name]}" for name in changed)
