"""From a request's bytes to one check: a trace, and how long its sender waits."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitor.domain.errors import InvalidTrace
from monitor.domain.trace import Trace
from monitor.ingest.callers import Caller
from monitor.ingest.counters import Refusal
from monitor.ingest.intake import decode_item, parsed
from monitor.ingest.refused import RequestRefused
from monitor.weight import MOST_PARTS, too_many_in_json

SERVICE = "check"
"""The service of a check that names none."""

LEAST_MILLISECONDS = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckLimits:
    """What one check may be and take; see the settings."""

    budget_milliseconds: int
    most_milliseconds: int
    most_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """An answer to be judged, and within how many seconds; `owner` is the tenant that its sender has proved to be."""

    trace: Trace
    seconds: float
    owner: str | None = None


def read_check(body: bytes, *, limits: CheckLimits, now: datetime, new_ids: Iterator[str], caller: Caller) -> Check:
    """Read one check: a `rag_trace.v1` whose ids, time and service may be left out, and `budget_ms`.

    Raises:
        RequestRefused: 400 not JSON, 403 another tenant than the caller's, 413 too many parts.
        InvalidTrace: names the field that is to blame.
    """
    if too_many_in_json(body):
        raise RequestRefused(413, Refusal.TOO_MANY, f"more than {MOST_PARTS} objects and lists in one check")
    item = parsed(body)
    budget = limits.budget_milliseconds
    if isinstance(item, dict):
        if item.get("budget_ms") is not None:
            budget = _budget(item["budget_ms"], most=limits.most_milliseconds)
        if item.get("service") is None:
            item["service"] = SERVICE
    trace = decode_item(item, now=now, new_ids=new_ids, caller=caller)
    return Check(trace=trace, seconds=budget / 1000, owner=caller.tenant)


def _budget(said: Any, *, most: int) -> Any:
    # `not within` rather than `outside`: a NaN is neither below nor above.
    if isinstance(said, bool) or not isinstance(said, int | float) or not LEAST_MILLISECONDS <= said <= most:
        raise InvalidTrace("budget_ms", f"a number of milliseconds, {LEAST_MILLISECONDS} to {most}")
    return said
