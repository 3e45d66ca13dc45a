"""JSON that a terminal may show whatever was put into it."""

import json
from datetime import datetime
from typing import Any


def safe_json(value: Any, *, indent: int | None = None) -> str:
    """JSON in which whatever a terminal would obey or hide is escaped; all else is as it is. Times are ISO 8601.

    On one line, or indented.
    """
    made = json.dumps(value, ensure_ascii=False, default=_plain, indent=indent)
    return "\n".join(map(escaped, made.split("\n")))


def escaped(line: str) -> str:
    """A line of JSON in which whatever a terminal would obey or hide is escaped; it means the same."""
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")
