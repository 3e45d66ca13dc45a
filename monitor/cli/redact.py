"""`groundwatch redact`: what the sidecar would make of a text."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.console import printable
from monitor.config import load_settings
from monitor.domain.errors import InvalidInput
from monitor.services.treatment import redactor


def register(app: typer.Typer) -> None:
    """Add `redact`."""
    app.command()(redact)


def redact(
    file: Annotated[str, typer.Argument(help="A text in UTF-8; - is stdin.")] = "-",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: `text`, and `found` by rule.")] = False,
) -> None:
    """Print a text as the sidecar would keep it, under the settings of `redaction`; what was found goes to stderr.

    To try a rule: GROUNDWATCH_REDACTION__RULES='[{"name": "badge", "regex": "badge-[0-9]{4}"}]' groundwatch redact FILE
    """
    found: Counter[str] = Counter()
    text = redactor(load_settings().redaction).text(_read(file), found)
    if as_json:
        typer.echo(json.dumps({"text": text, "found": dict(found)}))
        return
    typer.echo("\n".join(map(printable, text.split("\n"))), nl=False)
    said = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
    typer.echo(said or "nothing found", err=True)


def _read(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}") from None
    return raw.decode(errors="replace")
