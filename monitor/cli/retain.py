"""`groundwatch retain`: take away what is kept no longer, now."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from monitor.config import load_settings
from monitor.services.retention import retain as take_away
from monitor.storage.engine import create_ledger_engine
from monitor.storage.retention import Expired


def register(app: typer.Typer) -> None:
    """Add `retain`."""
    app.command()(retain)


def retain(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which days would be dropped; change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Drop days that are kept no longer (section `retention` of the settings).

    The ledger worker does so by itself every few hours; this is for when that is not soon enough. Nobody who reads or
    writes other days waits. Rollups stay for ever, and so do files of `groundwatch export`.
    """
    settings = load_settings()
    engine = create_ledger_engine(settings.postgres, application_name="groundwatch retain", pool_size=2)
    try:
        gone = take_away(engine, settings.retention, now=datetime.now(UTC), dry_run=dry_run)
    finally:
        engine.dispose()
    if as_json:
        said = {"busy": True} if gone is None else {"busy": False, "dry_run": dry_run, **asdict(gone)}
        typer.echo(json.dumps(said, indent=2))
    elif gone is None:
        typer.echo("Another process is at it.", err=True)
    else:
        _say(gone, dry_run=dry_run)


def _say(gone: Expired, *, dry_run: bool) -> None:
    for name in gone.partitions:
        typer.echo(f"{'would drop' if dry_run else 'dropped'} {name}", err=True)
    if gone.given_up:
        typer.echo(f"{'would give up' if dry_run else 'gave up'} {gone.given_up:,} escalations", err=True)
    for table, count in gone.rows.items():
        if count:
            typer.echo(f"{'would delete' if dry_run else 'deleted'} {count:,} rows of {table}", err=True)
    if not gone.partitions and not gone.given_up and not any(gone.rows.values()):
        typer.echo("Nothing is older than it may be.", err=True)
