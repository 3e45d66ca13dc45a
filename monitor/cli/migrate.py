"""`groundwatch migrate`: bring the ledger's tables up to what this release expects."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from monitor.config import load_settings
from monitor.domain.errors import LedgerUnavailable
from monitor.storage.migrate import MigrationState, await_migration, check, upgrade

_BEHIND = 1


def register(app: typer.Typer) -> None:
    """Add `migrate`."""
    app.command()(migrate)


def migrate(
    *,
    only_check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 0 when this release can work, else with 1.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="With --check: wait so long for it, as init containers do.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Apply pending migrations to the ledger, all or none.

    Safe to run while workers write, and from many hosts at once: one migrates, the others wait for it. Run it
    before starting a new release's workers; the old release's go on working.

    With --check nothing is changed: exits with 0 when the ledger is where this release expects it, or newer; with 1
    when migrations are pending, which are named, or Postgres cannot be reached. `--check --wait 300` holds a worker
    back until somebody has migrated.
    """
    if wait and not only_check:
        raise typer.BadParameter("only --check waits: a migration has its own patience", param_hint="--wait")
    url = load_settings().postgres.url.get_secret_value()
    try:
        state, applied = (await_migration(url, seconds=wait), ()) if only_check else _upgrade(url)
    except LedgerUnavailable as error:
        if as_json:
            typer.echo(json.dumps({"up_to_date": False, "error": str(error)}, indent=2))
        raise
    if as_json:
        typer.echo(json.dumps({**asdict(state), "up_to_date": state.up_to_date, "applied": applied}, indent=2))
    else:
        _say(state, applied=applied)
    if not state.up_to_date:
        raise typer.Exit(_BEHIND)


def _upgrade(url: str) -> tuple[MigrationState, tuple[str, ...]]:
    before = check(url)
    return upgrade(url), before.pending


def _say(state: MigrationState, *, applied: tuple[str, ...]) -> None:
    for revision in applied:
        typer.echo(f"applied {revision}", err=True)
    if not state.known:
        typer.echo(
            f"The ledger is at {state.current}, of a newer release: left as it is. This release expects "
            f"{state.head} and works with it.",
            err=True,
        )
    elif state.up_to_date:
        typer.echo(f"The ledger is at {state.current}: up to date.", err=True)
    else:
        typer.echo(f"The ledger is at {state.current or 'nothing'}; pending: {', '.join(state.pending)}.", err=True)
