"""`groundwatch tokens`: who may send to a sidecar."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.console import plain_table, printable, wide_console
from monitor.cli.durations import duration
from monitor.config import load_settings
from monitor.domain.errors import InvalidInput
from monitor.ingest.tokens import Token, digest, new_secret, read_tokens, write_tokens

_NO_FILE = "no tokens file: set access.tokens_file, or name one with --file"
_MINUTE = "%Y-%m-%d %H:%M"

File = Annotated[Path | None, typer.Option(help="The tokens file, instead of access.tokens_file.")]

tokens = typer.Typer(no_args_is_help=True, help="Who may send to a sidecar: make, list and expire tokens of tenants.")


def register(app: typer.Typer) -> None:
    """Add `tokens`."""
    app.add_typer(tokens, name="tokens")


@tokens.command()
def new(
    name: Annotated[str, typer.Argument(help="Tells it from others: who uses it, and since when.")],
    *,
    tenant: Annotated[str, typer.Option(help="Whom what it sends belongs to.")] = "default",
    expires: Annotated[str | None, typer.Option(help="After how long it ends: 90d. Without it, never.")] = None,
    file: File = None,
) -> None:
    """Make a token, print it once, and keep its hash. A running sidecar knows it within a second.

    To rotate: make a new one, give it to the sender, then `tokens expire` the old one. Both hold meanwhile.
    """
    path = _file(file)
    known = read_tokens(path) if path.exists() else ()
    if any(token.name == name for token in known):
        raise InvalidInput(f"there is a token named {name!r} in {path}; choose another name, as rotation needs both")
    secret = new_secret()
    ends = datetime.now(UTC) + duration(expires, "--expires") if expires else None
    write_tokens(path, [*known, Token(name=name, tenant=tenant, sha256=digest(secret), expires=ends)])
    typer.echo(secret)
    typer.echo(f"kept in {path} as {name}, for tenant {tenant}; this is the only time that it is shown", err=True)


@tokens.command("list")
def listed(
    *,
    file: File = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the tokens, without their hashes."""
    now = datetime.now(UTC)
    found = read_tokens(_file(file))
    if as_json:
        for one in found:
            times = {"not_before": _iso(one.not_before), "expires": _iso(one.expires)}
            typer.echo(json.dumps({"name": one.name, "tenant": one.tenant, **times, "holds": one.holds(now)}))
        return
    table = plain_table(["token", "tenant", "from", "until", "holds"], [])
    for one in found:
        begins = f"{one.not_before:{_MINUTE}}" if one.not_before else "always"
        ends = f"{one.expires:{_MINUTE}}" if one.expires else "never ends"
        table.add_row(printable(one.name), printable(one.tenant), begins, ends, "yes" if one.holds(now) else "no")
    wide_console().print(table, markup=False)


@tokens.command()
def expire(
    name: Annotated[str, typer.Argument(help="As `tokens list` shows it.")],
    *,
    after: Annotated[str | None, typer.Option("--in", help="After how long: 7d. Without it, now.")] = None,
    file: File = None,
) -> None:
    """End a token, now or in a while. It stays in the list."""
    path = _file(file)
    known = read_tokens(path)
    if not any(token.name == name for token in known):
        raise InvalidInput(f"there is no token named {name!r} in {path}; see groundwatch tokens list")
    ends = datetime.now(UTC) + duration(after, "--in") if after else datetime.now(UTC)
    write_tokens(path, [replace(token, expires=ends) if token.name == name else token for token in known])


def _file(named: Path | None) -> Path:
    path = named or load_settings().access.tokens_file
    if path is None:
        raise InvalidInput(_NO_FILE)
    return path


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
