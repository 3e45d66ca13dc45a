"""`groundwatch settings`: every setting, its value here, where that comes from, and what it means."""

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo
from rich import box
from rich.console import Console
from rich.table import Column, Table

from monitor.config import HttpUrl, Prompt, Settings, load_settings, shown, source, variable
from monitor.judging.prompts import PROMPTS

INTRODUCTION = """\
# Settings

Every process reads the same settings. Each value comes from its environment variable, else from the TOML file that
`GROUNDWATCH_CONFIG` names (default: `groundwatch.toml` in the working directory, else what a running
`groundwatch up` left there), else from the default. An empty variable counts as absent. A bad value stops the process
at once, with the setting's name, the value and what is allowed. `groundwatch settings` prints the values in force.

In the file, a section is a table: `[kafka]`, then `partitions = 12`.

This page is generated: `groundwatch settings --markdown > docs/settings.md`.
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="settings", help="Show every setting: its value here, where it comes from, what it means.")(
        _settings
    )


def _settings(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array on stdout.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The reference page: defaults, no values.")] = False,
) -> None:
    if markdown:
        typer.echo(render_settings(), nl=False)
        return
    rows = list(_in_force(load_settings()))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    # Folded, never cut: a name or a value that is shown is shown whole.
    table = Table(*(Column(head, overflow="fold") for head in ("setting", "value", "from", "meaning")), box=box.SIMPLE)
    for row in rows:
        value = "" if row["value"] is None else str(row["value"])
        table.add_row(row["setting"], value, row["source"], row["meaning"])
    Console(markup=False).print(table)


def render_settings() -> str:
    """The page `docs/settings.md`: every section and setting in the order of declaration."""
    parts = [INTRODUCTION]
    for section, declared in _sections():
        rows = "\n".join(_markdown_row(section, name, field) for name, field in declared.model_fields.items())
        heading = f"## {section}\n\n{declared.__doc__}\n"
        parts.append(f"{heading}\n| variable | default | allowed | meaning |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def _in_force(settings: Settings) -> Iterator[dict[str, Any]]:
    for section, declared in _sections():
        for name, field in declared.model_fields.items():
            yield {
                "setting": f"{section}.{name}",
                "variable": variable(section, name),
                "value": shown(getattr(getattr(settings, section), name)),
                "source": source(section, name),
                "meaning": field.description,
            }


def _sections() -> Iterator[tuple[str, Any]]:
    for section, field in Settings.model_fields.items():
        yield section, field.annotation


def _markdown_row(section: str, name: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    default = "" if value in (None, (), {}) else f"`{_written(value)}`"
    return f"| `{variable(section, name)}` | {default} | {_allowed(field)} | {field.description} |"


def _written(default: Any) -> str:
    plain = default.get_secret_value() if hasattr(default, "get_secret_value") else default
    return str(plain).lower() if isinstance(plain, bool) else str(plain)


def _allowed(field: FieldInfo) -> str:
    if field.metadata == list(get_args(Prompt)[1:]):
        return ", ".join(f"`{name}`" for name in PROMPTS)
    limits = {type(limit): limit for limit in field.metadata}
    low = limits.get(Ge) or limits.get(Gt)
    high = limits.get(Le)
    words = _kind(field.annotation)
    if isinstance(low, Gt):
        return f"{words} above {low.gt}"
    if low and high:
        return f"{words}, {low.ge} to {high.le}"
    return f"{words} from {low.ge}" if low else words


def _kind(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in get_args(annotation))
    if origin in (types.UnionType, Union):
        return " or ".join(_kind(part) for part in get_args(annotation) if part is not types.NoneType)
    if origin is Annotated:
        return "http(s) URL" if annotation == HttpUrl else _kind(get_args(annotation)[0])
    if origin in (tuple, dict):
        return {tuple: "list", dict: "table"}[origin] + ", as JSON in the environment"
    names = {"int": "whole number", "float": "number", "bool": "`true`, `false`", "Path": "path", "SecretStr": "secret"}
    return names.get(annotation.__name__, "text")
