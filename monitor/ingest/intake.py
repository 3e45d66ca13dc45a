"""From a request's bytes to records for the spool: each trace accepted or rejected on its own."""

import codecs
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

import pydantic_core

from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.errors import BrokenContract, InvalidTrace
from monitor.domain.trace import Trace
from monitor.ingest.callers import ANYBODY, Caller
from monitor.ingest.counters import Refusal
from monitor.ingest.refused import RequestRefused, other_tenant, shown
from monitor.ingest.spool_records import Entry
from monitor.ingest.storing import trace_entry
from monitor.weight import MOST_PARTS, too_many_in_json
from monitor.wire import MAX_TRACE_BYTES, TraceV1, decode_trace

JSON_TYPES = ("application/json",)
LINE_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")

_IDENTIFIER = re.compile(r"[\x21-\x7e]{1,128}")
_LINE = re.compile(rb"[^\r\n]+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FIELDS = frozenset(f.alias or name for name, f in TraceV1.model_fields.items())
_REASONS = {
    DeadLetterReason.NOT_JSON: Refusal.NOT_JSON,
    DeadLetterReason.INVALID: Refusal.INVALID,
    DeadLetterReason.TOO_LARGE: Refusal.TOO_LARGE,
    DeadLetterReason.UNREADABLE: Refusal.INVALID,
}
_NOTHING = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """One item of a request that breaks its contract.

    Attributes:
        identifier: what the sender calls it, where that can be read.
        top_level_field: the contract's field that is to blame, or None: never a name that the sender made up.
    """

    index: int
    identifier: str | None
    field: str
    problem: str
    reason: Refusal
    top_level_field: str | None


@dataclass(kw_only=True, slots=True)
class Taken:
    """What a request comes to: records to spool, the ids of their traces, what sampling left out, what was rejected."""

    entries: list[Entry] = field(default_factory=list)
    trace_ids: list[str] = field(default_factory=list)
    sampled_out: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def take(
    body: bytes,
    *,
    lines: bool,
    max_batch: int,
    now: datetime,
    new_ids: Iterator[str],
    caller: Caller = ANYBODY,
    treat: Callable[[Trace], Trace | None] = lambda trace: trace,
) -> Taken:
    """Decode a body: one trace, a list, `{"traces": [...]}`, or one trace a line.

    A trace without `event_time` gets `now`, one without `trace_id` the next of `new_ids`, one without `tenant` the
    caller's.

    `treat` is applied to each trace before it is kept; None from it leaves the trace out of the sample.

    Raises:
        RequestRefused: 400 not JSON, 403 a trace of another tenant than the caller's, 413 more than `max_batch`
            traces, 422 not a trace nor a list of them.
    """
    taken = Taken()
    for index, item in enumerate(items_of(body, lines=lines, max_batch=max_batch, one="a trace", many="traces")):
        try:
            trace = decode_item(item, now=now, new_ids=new_ids, caller=caller)
            kept = treat(trace)
            if kept is None:
                taken.sampled_out.append(trace.trace_id)
                continue
            entry = _entry(kept)
        except InvalidTrace as error:
            taken.rejected.append(rejected(index, item, error, id_field="trace_id", fields=_FIELDS))
        else:
            taken.entries.append(entry)
            taken.trace_ids.append(trace.trace_id)
    return taken


def items_of(body: bytes, *, lines: bool, max_batch: int, one: str, many: str) -> list[Any]:
    """The items of a body: one, a list, one a line, or an object with the list under the name of `many`.

    Raises:
        RequestRefused: 400 not JSON, 413 more than `max_batch` or too many parts, 422 not an item nor a list of them.
    """
    if too_many_in_json(body):
        problem = f"more than {MOST_PARTS} objects and lists in one request: send fewer {many} at once"
        raise RequestRefused(413, Refusal.TOO_MANY, problem)
    items = _lines(body, most=max_batch) if lines else _items(parsed(body), one=one, many=many)
    if len(items) > max_batch:
        raise RequestRefused(413, Refusal.TOO_MANY, f"more than {max_batch} {many} in one request")
    return items


def parsed(body: bytes) -> Any:
    """A body's JSON value; raises RequestRefused 400 where it is not JSON."""
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        return pydantic_core.from_json(body)
    except ValueError as error:
        # One lone surrogate makes the whole text invalid; json.loads lets it pass, so that only its trace is rejected.
        value = _lenient(body)
        if value is _NOTHING:
            raise RequestRefused(400, Refusal.NOT_JSON, f"the body is not JSON: {shown(str(error))}") from None
        return value


def _lenient(body: bytes) -> Any:
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        return _NOTHING


def _items(value: Any, *, one: str, many: str) -> list[Any]:
    if isinstance(value, dict) and many in value:
        value = value[many]
    elif isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        problem = f'send {one}, a list of {many}, or {{"{many}": [...]}}'
        raise RequestRefused(422, Refusal.INVALID, problem)
    return value


class _Unparsed(str):
    """Why a line is not JSON, in its place among the items."""

    __slots__ = ()


def _lines(body: bytes, *, most: int) -> list[Any]:
    """One more than `most` at most: the rest is not read."""
    found = (match[0] for match in _LINE.finditer(body.removeprefix(codecs.BOM_UTF8)))
    return [_line(line) for line in islice((line for line in found if line.strip()), most + 1)]


def _line(line: bytes) -> Any:
    try:
        return parsed(line)
    except RequestRefused as error:
        return _Unparsed(error.problem.replace("the body", "the line"))


def as_object(item: Any, *, caller: Caller, one: str, kind: type[BrokenContract]) -> dict[str, Any]:
    """An item that is an object, with the caller's tenant where it says none; raises `kind` where it is none."""
    if isinstance(item, _Unparsed):
        raise kind("$", str(item), DeadLetterReason.NOT_JSON)
    if not isinstance(item, dict):
        raise kind("$", f"{one} is a JSON object")
    if caller.tenant is not None:
        _own(item, caller.tenant)
    return item


def _own(item: dict[str, Any], tenant: str) -> None:
    """The item is the caller's tenant's; one of another's refuses the whole request."""
    if item.get("tenant") is None:
        item["tenant"] = tenant
    elif item["tenant"] != tenant:
        raise other_tenant("tenant", tenant)


def decode_item(item: Any, *, now: datetime, new_ids: Iterator[str], caller: Caller) -> Trace:
    """A trace, with what may be left to the sidecar filled in; raises InvalidTrace, or RequestRefused 403."""
    item = as_object(item, caller=caller, one="a trace", kind=InvalidTrace)
    if item.get("event_time") is None:
        item["event_time"] = now.isoformat()
    if item.get("trace_id") is None:
        item["trace_id"] = next(new_ids)
    return decode_trace(as_json(item, InvalidTrace), now=now)


def _entry(trace: Trace) -> Entry:
    entry = trace_entry(trace)
    # The defaults that were filled in count too: readers hold the limit against what they receive.
    if len(entry.value) > MAX_TRACE_BYTES:
        problem = f"{len(entry.value)} bytes with its defaults; at most {MAX_TRACE_BYTES} are allowed"
        raise InvalidTrace("$", problem, DeadLetterReason.TOO_LARGE)
    return entry


def as_json(item: Mapping[str, Any], kind: type[BrokenContract]) -> bytes:
    """An item's own JSON; raises `kind` where it holds half a surrogate pair, and says where."""
    try:
        return pydantic_core.to_json(item)
    except pydantic_core.PydanticSerializationError as error:
        place = _surrogate(item)
        if place is None:
            raise kind("$", shown(str(error))) from None
        raise kind(*place) from None


def _surrogate(value: Any) -> tuple[str, str] | None:
    """Path and problem of the first lone surrogate, walking without recursion: the nesting is the sender's choice."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, found = waiting.pop()
        if isinstance(found, str) and (match := _SURROGATE.search(found)):
            return path.removeprefix(".") or "$", f"lone surrogate at character {match.start()}"
        if isinstance(found, dict):
            for key in found:
                if _SURROGATE.search(key):
                    return path.removeprefix(".") or "$", "lone surrogate in a field's name"
            waiting.extend((f"{path}.{key}", child) for key, child in reversed(found.items()))
        elif isinstance(found, list):
            waiting.extend((f"{path}[{n}]", found[n]) for n in reversed(range(len(found))))
    return None


def rejected(index: int, item: Any, error: BrokenContract, *, id_field: str, fields: Collection[str]) -> Rejected:
    """What is told of an item that was not taken; `fields` are those of its contract."""
    said = item.get(id_field) if isinstance(item, dict) else None
    known = isinstance(said, str) and _IDENTIFIER.fullmatch(said) is not None
    name = re.split(r"[.\[]", error.field, maxsplit=1)[0]
    return Rejected(
        index=index,
        identifier=said if known else None,
        field=shown(error.field),
        problem=shown(error.problem),
        reason=_REASONS[error.reason],
        top_level_field=name if name in fields else None,
    )
