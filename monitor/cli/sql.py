"""`groundwatch sql`: one read-only query over the schema `report`, typed or saved."""

import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.cli.console import plain_table, printable, wide_console
from monitor.cli.durations import duration
from monitor.cli.records import opened
from monitor.cli.safe_json import escaped
from monitor.config import load_settings
from monitor.domain.errors import InvalidInput
from monitor.storage.asking import Answer, Question, answering
from monitor.storage.asking_saved import SavedQuery, places, saved_queries

_TABLE_ROWS = 1000
_MAX_QUERY_BYTES = 1_000_000


def register(app: typer.Typer) -> None:
    """Add `sql`."""
    app.command(name="sql")(ask)


def ask(
    *,
    query: Annotated[str | None, typer.Argument(help="The query; - reads it from standard input.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read the query from this file.")] = None,
    saved: Annotated[str | None, typer.Option(help="Run the saved query of this name.")] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE for :NAME in the query; the value 24h ago is sent as that time."),
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="List the saved queries, with their parameters.")] = False,
    tenant: Annotated[str | None, typer.Option(help="See this tenant's rows only.")] = None,
    timeout: Annotated[str, typer.Option(help="Give up after so long, the sending of rows included.")] = "30s",
    max_rows: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many rows. A table stops after 1000 unless told.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a header, as is the default off a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Run one read-only query over the views of `report`, which docs/sql.md describes.

    It runs as the reader of postgres.reader_url, which sees its tenants' rows only, whatever is asked. Without that
    setting it runs as postgres.url's user, put into the role that reads all tenants: a guard against mistakes, as a
    query can step out of that role. So set postgres.reader_url (groundwatch readers add) where others write the
    queries. It cannot write. Examples:

    groundwatch sql "select service, rate from rates_per_hour order by hour desc limit 5"

    groundwatch sql --saved worst-services --param since="2h ago" --csv
    """
    settings = load_settings().postgres
    if only_list:
        _list(list(saved_queries(settings.saved_queries).values()), as_json=as_json)
        return
    if as_csv and as_json:
        raise InvalidInput("--csv and --json: one of the two")
    given = _parameters(param or [])
    sql, parameters = _query(query, file, saved, given, settings.saved_queries)
    seconds = duration(timeout, "--timeout").total_seconds()
    if not seconds:
        raise InvalidInput("--timeout: must be longer than nothing")
    question = Question(sql=sql, tenant=tenant, timeout_seconds=seconds, parameters=parameters)
    with _readable_refusals(), answering(settings, question) as answer:
        if as_json:
            cut = _write_json(answer, max_rows)
        elif as_csv or not _on_terminal():
            cut = _write_csv(answer, max_rows)
        else:
            cut = _print_table(answer, max_rows or _TABLE_ROWS)
        if cut:
            typer.echo(f"cut after {cut:,} rows: there are more (--max-rows)", err=True)


@contextmanager
def _readable_refusals() -> Iterator[None]:
    """Postgres' errors may quote rows, which may hold what a terminal would obey."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput("\n".join(map(printable, str(error).split("\n")))) from None


def _on_terminal() -> bool:
    return sys.stdout.isatty()


def _query(
    typed: str | None, file: Path | None, saved: str | None, given: dict[str, str], own: Path | None
) -> tuple[str, dict[str, str | None]]:
    if [typed, file, saved].count(None) != 2:  # noqa: PLR2004 - exactly one is given
        raise InvalidInput("give a query, --file or --saved; one of the three (--list shows what is saved)")
    if saved is not None:
        known = saved_queries(own)
        if saved not in known:
            raise InvalidInput(f"there is no saved query {saved!r}; groundwatch sql --list shows them")
        return known[saved].sql, known[saved].values(given)
    if file is None and typed != "-":
        return _with_values(str(typed), given)
    with opened(file or Path("-")) as stream:
        read = stream.read(_MAX_QUERY_BYTES + 1)
    if len(read) > _MAX_QUERY_BYTES:
        raise InvalidInput(f"the query is longer than {_MAX_QUERY_BYTES:,} bytes")
    try:
        return _with_values(read.decode("utf-8-sig"), given)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the query is not UTF-8: {error}") from None


def _with_values(sql: str, given: dict[str, str]) -> tuple[str, dict[str, str | None]]:
    if unused := sorted(set(given) - places(sql)):
        raise InvalidInput(f"--param {unused[0]}: there is no :{unused[0]} in the query")
    return sql, dict(given)


def _parameters(given: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise InvalidInput(f"--param: {name!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _list(found: Sequence[SavedQuery], *, as_json: bool) -> None:
    for one in found:
        if as_json:
            parameters = [
                {"name": it.name, "meaning": it.meaning, "required": it.required, "default": it.default}
                for it in one.parameters
            ]
            said = {"name": one.name, "title": one.title, "meaning": one.meaning, "parameters": parameters}
            typer.echo(json.dumps(said, ensure_ascii=False))
            continue
        typer.echo(f"{one.name}: {printable(one.title)}")
        for it in one.parameters:
            value = "=…" if it.required else f"={it.default}" if it.default else " (not set)"
            typer.echo(f"    --param {it.name}{value}   {printable(it.meaning)}")


def _up_to(answer: Answer, most: int | None) -> Iterator[Sequence[Any]]:
    return islice(answer.rows, most)


def _cut(answer: Answer, most: int | None) -> int:
    """How many rows were shown, where there are more; else 0."""
    return most if most and next(answer.rows, None) is not None else 0


def _write_json(answer: Answer, most: int | None) -> int:
    columns = answer.columns
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise InvalidInput(f"two columns are called {', '.join(twice)}: tell them apart with `as` for --json")
    for row in _up_to(answer, most):
        values = dict(zip(columns, map(_as_json, row), strict=True))
        sys.stdout.write(escaped(json.dumps(values, ensure_ascii=False, default=str)) + "\n")
    return _cut(answer, most)


def _as_json(value: Any) -> Any:
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    # JSON has no such numbers.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _write_csv(answer: Answer, most: int | None) -> int:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    # Files get every character as it is.
    shown = printable if _on_terminal() else str
    writer.writerow(map(shown, answer.columns))
    for row in _up_to(answer, most):
        writer.writerow(["" if value is None else shown(_as_text(value)) for value in row])
    return _cut(answer, most)


def _print_table(answer: Answer, most: int) -> int:
    rows = [[_as_text(value) if value is not None else "-" for value in row] for row in _up_to(answer, most)]
    cut = _cut(answer, most)
    table = plain_table([printable(name) for name in answer.columns], [])
    for row in rows:
        table.add_row(*map(printable, row))
    wide_console().print(table, markup=False)
    typer.echo(f"{len(rows):,} rows" if len(rows) != 1 else "1 row", err=True)
    return cut


def _as_text(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
