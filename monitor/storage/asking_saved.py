"""Saved queries: `.sql` files with a head that says what they answer, shipped ones and one's own.

    -- What it answers, in a line
    -- More about it, as many lines as it takes.
    -- :since = 24h ago: from when on
    -- :trace_id: the trace
    select …

A parameter with a value after `=` may be left out; with nothing after it, it is null then. A value such as `24h ago` or
`1d12h ago` is sent as that time: Postgres plans for the days that a constant leaves, but for all of them where it is to
compute the time itself, from `now()`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from monitor.domain.errors import InvalidInput
from monitor.resources import resource

_PARAMETER = re.compile(r":([a-z_][a-z0-9_]*)( = ?(.*?))?: (.+)")
# Whatever may hold a colon that is no parameter's comes first, so that it is passed over whole.
_PLACES = re.compile(
    r"\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$|(?<![:\w\]]):([a-z_][a-z0-9_]*)\b",
    re.DOTALL,
)

_AGO = re.compile(r"((?:[0-9]{1,6}[dhms]){1,4}) ago")
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One of a query's; `default` is None where it is null unless given, and unused where it is required."""

    name: str
    meaning: str
    required: bool
    default: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedQuery:
    """One file."""

    name: str
    title: str
    meaning: str
    parameters: tuple[Parameter, ...]
    sql: str

    def values(self, given: Mapping[str, str]) -> dict[str, str | None]:
        """The values that it runs with.

        Raises:
            InvalidInput: one is missing, or it has no such parameter.
        """
        known = {parameter.name for parameter in self.parameters}
        if unknown := sorted(set(given) - known):
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise InvalidInput(f"{self.name}: no parameter {', '.join(unknown)}; {takes}")
        if missing := [one.name for one in self.parameters if one.required and one.name not in given]:
            raise InvalidInput(f"{self.name}: needs {' '.join(f'--param {name}=…' for name in missing)}")
        return {one.name: given.get(one.name, one.default) for one in self.parameters}


def saved_queries(own: Path | None) -> dict[str, SavedQuery]:
    """All by name: the shipped ones, and those of the folder `own`, which win.

    Raises:
        InvalidInput: the folder or a file in it cannot be read, or a file has no head.
    """
    if own is not None and not own.is_dir():
        raise InvalidInput(f"postgres.saved_queries: {own} is no folder")
    folders = [resource("queries"), *([own] if own else [])]
    found = {path.stem: path for folder in folders for path in sorted(folder.glob("*.sql"))}
    return {name: read_saved(path) for name, path in sorted(found.items())}


def read_saved(path: Path) -> SavedQuery:
    """Read one file.

    Raises:
        InvalidInput: it cannot be read, or has no head.
    """
    try:
        sql = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: {error}") from None
    head = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        head.append(line.removeprefix("--").strip())
    if not head or not head[0] or head[0].startswith(":"):
        raise InvalidInput(f"{path}: begins with no line `-- what it answers`")
    parameters = [match for line in head if (match := _PARAMETER.fullmatch(line))]
    return SavedQuery(
        name=path.stem,
        title=head[0],
        meaning=" ".join(line for line in head[1:] if line and not _PARAMETER.fullmatch(line)),
        parameters=tuple(
            Parameter(name=name, meaning=meaning, required=given is None, default=default or None)
            for name, given, default, meaning in (match.groups() for match in parameters)
        ),
        sql=sql,
    )


def places(sql: str) -> set[str]:
    """The names of a statement's `:name`."""
    return {match.group(2) for match in _PLACES.finditer(sql)} - {None}


def bind(sql: str, values: Mapping[str, str | None]) -> tuple[str, list[str | None]]:
    """The statement with each `:name` that there is a value for as `$1`, `$2`, …, and the values in that order.

    What stands in texts, names and comments stays as it is, and so do casts.
    """
    order: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        name = match.group(2)
        if name is None or name not in values:
            return match.group()
        if name not in order:
            order.append(name)
        return f"${order.index(name) + 1}"

    return _PLACES.sub(numbered, sql), [values[name] for name in order]


def timed(values: Mapping[str, str | None], *, now: datetime) -> dict[str, str | None]:
    """The values, with each `24h ago` as the time that it is; `now` is aware.

    Raises:
        InvalidInput: one lies before all calendars.
    """
    return {name: _timed(name, value, now) for name, value in values.items()}


def _timed(name: str, value: str | None, now: datetime) -> str | None:
    match = _AGO.fullmatch(value or "")
    if match is None:
        return value
    parts = re.findall(r"([0-9]+)([dhms])", match.group(1))
    try:
        return (now - sum((timedelta(**{_UNITS[unit]: int(count)}) for count, unit in parts), timedelta())).isoformat()
    except OverflowError:
        raise InvalidInput(f"{name}: {value!r} is before all calendars") from None
