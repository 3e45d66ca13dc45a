"""`groundwatch readers`: who may read the ledger in SQL, and whose rows."""

import json
import secrets
import sys
from typing import Annotated

import typer

from monitor.cli.console import plain_table, printable, wide_console
from monitor.cli.durations import duration
from monitor.cli.ledger import ledger
from monitor.domain.errors import InvalidInput
from monitor.storage.access_readers import ALL_TENANTS, add_reader, change_reader, list_readers, remove_reader

_SHORTEST_PASSWORD = 12

Name = Annotated[str, typer.Argument(help="Of the Postgres role.")]

readers = typer.Typer(
    no_args_is_help=True,
    help="Who may read the schema `report` in SQL, and whose rows: make, list, change and remove read-only logins.",
)


def register(app: typer.Typer) -> None:
    """Add `readers`."""
    app.add_typer(readers, name="readers")


@readers.command()
def add(
    name: Name,
    *,
    tenant: Annotated[list[str] | None, typer.Option(help="A tenant whose rows it sees; may be given again.")] = None,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="It sees all, those to come included.")] = False,
    timeout: Annotated[str, typer.Option(help="A query of its is stopped after so long.")] = "30s",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Take the password from standard input instead of making one.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Make a login role that reads `report` and nothing else, and print its password once.

    It sees its tenants' rows only, by Postgres's row-level security. Its queries are stopped at the timeout: by
    Postgres, and should it set that aside, by the alert worker a little later.
    """
    tenants = _tenants(tenant, all_tenants=all_tenants)
    seconds = _seconds(timeout)
    password = _given() if password_stdin else secrets.token_urlsafe(32)
    with ledger() as engine:
        add_reader(engine, name=name, tenants=tenants, statement_seconds=seconds, password=password)
    shown = None if password_stdin else password
    if as_json:
        said = {"name": name, "tenants": tenants, "timeout_seconds": seconds, "password": shown}
        typer.echo(json.dumps(said, ensure_ascii=False))
        return
    if shown:
        typer.echo(shown)
    whose = "all tenants" if tenants == [ALL_TENANTS] else ", ".join(map(printable, tenants))
    typer.echo(f"{name} reads {whose}; its password is shown this once, and kept as a hash only", err=True)


@readers.command("list")
def listed(*, as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """List the readers of this ledger."""
    with ledger() as engine:
        found = list_readers(engine)
    if as_json:
        for one in found:
            said = {"name": one.name, "tenants": one.tenants, "timeout_seconds": one.statement_seconds}
            typer.echo(json.dumps({**said, "created_at": one.created_at.isoformat()}, ensure_ascii=False))
        return
    if not found:
        typer.echo("no readers; groundwatch readers add makes one", err=True)
        return
    table = plain_table(["reader", "tenants", "since"], ["timeout"])
    for one in found:
        tenants = "all" if one.tenants == (ALL_TENANTS,) else printable(", ".join(one.tenants))
        table.add_row(one.name, tenants, f"{one.created_at:%Y-%m-%d %H:%M}", f"{one.statement_seconds:g} s")
    wide_console().print(table, markup=False)


@readers.command()
def change(
    name: Name,
    *,
    tenant: Annotated[
        list[str] | None,
        typer.Option(help="A tenant whose rows it sees, in place of those that it saw; may be given again."),
    ] = None,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="It sees all, those to come included.")] = False,
    timeout: Annotated[str | None, typer.Option(help="A query of its is stopped after so long.")] = None,
    new_password: Annotated[
        bool, typer.Option("--new-password", help="Make another password, and print it once.")
    ] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Take another password from standard input.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Change whose rows a reader sees, its time or its password; what is not named stays.

    Other tenants hold from its next query on. With another password or time its open sessions end. Example:

    groundwatch readers change acme_bi --new-password
    """
    tenants = _tenants(tenant, all_tenants=all_tenants) if tenant or all_tenants else None
    seconds = None if timeout is None else _seconds(timeout)
    if new_password and password_stdin:
        raise InvalidInput("--new-password and --password-stdin: one of the two")
    password = secrets.token_urlsafe(32) if new_password else _given() if password_stdin else None
    if tenants is None and seconds is None and password is None:
        raise InvalidInput("name what changes: --tenant, --all-tenants, --timeout, --new-password or --password-stdin")
    with ledger() as engine:
        change_reader(engine, name, tenants=tenants, statement_seconds=seconds, password=password)
    shown = password if new_password else None
    if as_json:
        said = {"name": name, "tenants": tenants, "timeout_seconds": seconds, "password": shown}
        typer.echo(json.dumps({key: value for key, value in said.items() if value is not None}, ensure_ascii=False))
        return
    if shown:
        typer.echo(shown)
    typer.echo(f"{name} is changed", err=True)


@readers.command()
def remove(
    name: Name,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Drop a reader's role, and end its sessions."""
    with ledger() as engine:
        remove_reader(engine, name)
    if as_json:
        typer.echo(json.dumps({"name": name, "removed": True}))
    else:
        typer.echo(f"{name} reads no more", err=True)


def _tenants(named: list[str] | None, *, all_tenants: bool) -> list[str]:
    if all_tenants == bool(named):
        raise InvalidInput("name the tenants that it reads with --tenant, or give --all-tenants; one of the two")
    if named and (ALL_TENANTS in named or "" in named):
        raise InvalidInput(f"--tenant: {ALL_TENANTS!r} and '' are no tenants; all of them is --all-tenants")
    return [ALL_TENANTS] if all_tenants else list(dict.fromkeys(named or ()))


def _seconds(timeout: str) -> float:
    seconds = duration(timeout, "--timeout").total_seconds()
    if not seconds:
        raise InvalidInput("--timeout: must be longer than nothing")
    return seconds


def _given() -> str:
    password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < _SHORTEST_PASSWORD or "\0" in password:
        raise InvalidInput(f"the password on standard input is shorter than {_SHORTEST_PASSWORD} characters")
    return password
