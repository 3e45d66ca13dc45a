"""OTLP exports in JSON.

It differs from protobuf's own mapping: trace and span ids are hexadecimal, and 64-bit numbers may be text.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from monitor.domain.errors import InvalidMessage
from monitor.otlp.export import (
    DEEPEST,
    SPAN_ID_BYTES,
    TENANT,
    TOO_MANY,
    TRACE_ID_BYTES,
    Export,
    Inspected,
    Rejected,
    checked_id,
    exported,
    named,
)
from monitor.spans.span import Span, SpanEvent
from monitor.weight import too_many_in_json


def decode_json(raw: bytes) -> Export:
    """Read the same in JSON.

    Raises:
        InvalidMessage: it is none.
    """
    return exported(_json_spans(_parsed(raw)))


def inspect_json(raw: bytes) -> Inspected:
    """What `decode_json` would find.

    Raises:
        InvalidMessage: it is none.
    """
    request = _parsed(raw)
    found = exported(_json_spans(request))
    tenants = named(
        _json_any(one.get("value"), 1)
        for resource_spans in _objects(request, "resourceSpans")
        for one in _objects(_object(resource_spans, "resource"), "attributes")
        if one.get("key") == TENANT
    )
    return Inspected(spans=len(found.spans), rejected=found.rejected, reason=found.reason, tenants=tenants)


def _parsed(raw: bytes) -> Mapping[str, Any]:
    if too_many_in_json(raw):
        raise InvalidMessage(TOO_MANY)
    try:
        request = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"OTLP: not JSON: {error}") from None
    if not isinstance(request, dict) or not isinstance(request.get("resourceSpans", []), list):
        raise InvalidMessage("OTLP: not an object with resourceSpans")
    return request


def _json_spans(request: Mapping[str, Any]) -> Iterator[Span | Rejected]:
    for resource_spans in _objects(request, "resourceSpans"):
        resource = _json_attributes(_object(resource_spans, "resource"))
        for scope_spans in _objects(resource_spans, "scopeSpans"):
            for span in _objects(scope_spans, "spans"):
                try:
                    yield _json_span(span, resource)
                except Rejected as rejected:
                    yield rejected


def _json_span(span: Mapping[str, Any], resource: dict[str, Any]) -> Span:
    name, state = span.get("name", ""), span.get("traceState", "")
    return Span(
        trace_id=_hex(span.get("traceId"), TRACE_ID_BYTES, "traceId"),
        span_id=_hex(span.get("spanId"), SPAN_ID_BYTES, "spanId"),
        parent_id=_hex(parent, SPAN_ID_BYTES, "parentSpanId") if (parent := span.get("parentSpanId")) else None,
        name=name if isinstance(name, str) else "",
        start_ns=_whole(span.get("startTimeUnixNano", 0), "startTimeUnixNano"),
        end_ns=_whole(span.get("endTimeUnixNano", 0), "endTimeUnixNano"),
        attributes=_json_attributes(span),
        events=tuple(
            SpanEvent(name=str(event.get("name", "")), attributes=_json_attributes(event))
            for event in _objects(span, "events")
        ),
        resource=resource,
        dropped=_whole(span.get("droppedAttributesCount", 0), "droppedAttributesCount"),
        trace_state=state if isinstance(state, str) else "",
    )


def _objects(holder: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    listed = holder.get(key)
    if isinstance(listed, list):
        yield from (one for one in listed if isinstance(one, dict))


def _object(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def _hex(value: Any, length: int, name: str) -> str:
    try:
        return checked_id(bytes.fromhex(value), length, name)
    except (TypeError, ValueError):
        raise Rejected(f"{name}: should be {2 * length} hexadecimal digits") from None


def _whole(value: Any, name: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise Rejected(f"{name}: should be a whole number") from None
    if not 0 <= number < 2**64:
        raise Rejected(f"{name}: should be between 0 and 2^64")
    return number


def _json_attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {
        pair["key"]: _json_any(pair.get("value"), DEEPEST)
        for pair in _objects(holder, "attributes")
        if isinstance(pair.get("key"), str)
    }


def _json_any(value: Any, depth: int) -> Any:
    if not isinstance(value, dict) or not value or depth == 0:
        return None
    kind, content = next(iter(value.items()))
    if kind == "arrayValue":
        return [_json_any(one, depth - 1) for one in _objects(_object(value, kind), "values")]
    if kind == "kvlistValue":
        pairs = [pair for pair in _objects(_object(value, kind), "values") if isinstance(pair.get("key"), str)]
        return {pair["key"]: _json_any(pair.get("value"), depth - 1) for pair in pairs}
    read = _SCALARS.get(kind)
    return read(content) if read else None


def _number(kind: type[int] | type[float], content: Any) -> int | float | None:
    try:
        return kind(content)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_base64(content: str) -> bool:
    try:
        base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


_SCALARS: Mapping[str, Callable[[Any], Any]] = {
    "stringValue": lambda content: content if isinstance(content, str) else None,
    "boolValue": lambda content: content if isinstance(content, bool) else None,
    "intValue": lambda content: _number(int, content),
    "doubleValue": lambda content: _number(float, content),
    "bytesValue": lambda content: content if isinstance(content, str) and _is_base64(content) else None,
}
