"""`groundwatch retain`: take away what is kept no longer, now."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from monitor.config import load_settings
from monitor.services.retention import agreed_time
from monitor.services.retention import retain as take_away
from monitor.storage.engine import create_ledger_engine
from monitor.storage.retention import Expired


def register(app: typer.Typer) -> None:
    """Add `retain`."""
    app.command()(retain)


def retain(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and count its rows; change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Take away what is kept no longer (section `retention` of the settings).

    The ledger worker does so by itself every few hours; this is for when that is not soon enough. Whole days are
    dropped, and nobody who reads or writes other days waits; rows of tenants with times of their own, dead letters and
    texts of feedback go one by one. What waits for the pool for longer than its text is kept is given up. Rollups stay
    for ever, and so do files of `groundwatch export`. What somebody holds is named, and goes the next time.

    The database's clock decides; where this machine's differs by more than a day, nothing is done.
    """
    settings = load_settings()
    engine = create_ledger_engine(settings.postgres, application_name="groundwatch retain", pool_size=2)
    try:
        now = agreed_time(engine, clock=partial(datetime.now, UTC))
        gone = take_away(engine, settings.retention, now=now, dry_run=dry_run)
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
    for what in gone.waiting:
        typer.echo(f"held by somebody, the next time: {what}", err=True)
    if not gone.waiting and not gone.partitions and not gone.given_up and not any(gone.rows.values()):
        typer.echo("Nothing is older than it may be.", err=True)
