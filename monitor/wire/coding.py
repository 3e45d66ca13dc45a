"""What reading and writing have in common, whatever the contract."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.errors import BrokenContract, InvalidTrace
from monitor.wire.fields import EARLIEST, MAX_CLOCK_SKEW, MAX_FIELD_NAME, storable_json, storable_text


def check_clock(field: str, moment: datetime, now: datetime, kind: type[BrokenContract] = InvalidTrace) -> None:
    """Raise `kind` where a time can only come from a broken clock."""
    if moment > now + MAX_CLOCK_SKEW:
        ahead = moment - now
        raise kind(field, f"{ahead} in the future; at most {MAX_CLOCK_SKEW} is allowed: check the clock")
    if moment < EARLIEST:
        raise kind(field, f"before {EARLIEST:%Y-%m-%d}: check the clock")


def first_problem(error: ValidationError) -> tuple[str, str, DeadLetterReason]:
    """Path of the first offending field, what is wrong there, and the kind of wrong."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        problem = first["msg"].removeprefix("Invalid JSON: ")
        return "$", f"not JSON: {problem}", DeadLetterReason.NOT_JSON
    return _path(first["loc"]), first["msg"].removeprefix("Value error, "), DeadLetterReason.INVALID


def _path(location: tuple[str | int, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    # A key of the sender's may be megabytes long or hold a NUL, and this goes into logs, headers and Postgres.
    return storable_text(path.lstrip(".")[:MAX_FIELD_NAME]) or "$"


def to_bytes(message: Mapping[str, Any]) -> bytes:
    """UTF-8 JSON that every reader and Postgres take."""
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if "\\u0000" in text:  # a judge's own words may hold a NUL, as judged text may
        text = json.dumps(storable_json(message), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode(errors="replace")  # half a surrogate pair, from a model's cut-off token, becomes "?"
