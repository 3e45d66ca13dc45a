"""OTLP trace exports, in protobuf and in JSON, as spans (opentelemetry.io/docs/specs/otlp, version 1.x).

JSON differs from protobuf's own mapping: trace and span ids are hexadecimal, and 64-bit numbers may be text.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped] # googleapis ships no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from monitor.domain.errors import InvalidMessage
from monitor.spans.span import Span, SpanEvent

_DEEPEST = 32
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """One export: spans that can be read, and how many cannot, with the first reason."""

    spans: tuple[Span, ...]
    rejected: int = 0
    reason: str | None = None


PROTOBUF = "protobuf"
JSON = "json"
CONTENT_TYPES = {PROTOBUF: "application/x-protobuf", JSON: "application/json"}


def decode(raw: bytes, encoding: str) -> Export:
    """Read an export in one of the two encodings.

    Raises:
        InvalidMessage: it is none.
    """
    return {PROTOBUF: decode_protobuf, JSON: decode_json}[encoding](raw)


def encode_response(*, rejected: int, reason: str, encoding: str) -> bytes:
    """An `ExportTraceServiceResponse`, with `partial_success` where spans were rejected."""
    response = ExportTraceServiceResponse()
    if rejected:
        response.partial_success.rejected_spans = rejected
        response.partial_success.error_message = reason
    return _encoded(response, encoding)


def encode_status(code: int, message: str, encoding: str) -> bytes:
    """A `google.rpc.Status`, which OTLP/HTTP answers with where it refuses an export; `code` is a google.rpc.Code."""
    return _encoded(Status(code=code, message=message), encoding)


def _encoded(message: Message, encoding: str) -> bytes:
    return message.SerializeToString() if encoding == PROTOBUF else MessageToJson(message, indent=None).encode()


def decode_protobuf(raw: bytes) -> Export:
    """Read an `ExportTraceServiceRequest`, or the `TracesData` of a file, which is written alike.

    Raises:
        InvalidMessage: it is none.
    """
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(raw)
    except DecodeError as error:
        raise InvalidMessage(f"OTLP: not an ExportTraceServiceRequest: {error}") from None
    return _export(_protobuf_spans(request))


def decode_json(raw: bytes) -> Export:
    """Read the same in JSON.

    Raises:
        InvalidMessage: it is none.
    """
    try:
        request = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"OTLP: not JSON: {error}") from None
    if not isinstance(request, dict) or not isinstance(request.get("resourceSpans", []), list):
        raise InvalidMessage("OTLP: not an object with resourceSpans")
    return _export(_json_spans(request))


class _Rejected(Exception):
    """One span that cannot be read; the others can."""


def _export(spans: Iterator[Span | _Rejected]) -> Export:
    everything = list(spans)
    read = [one for one in everything if isinstance(one, Span)]
    rejected = [one for one in everything if isinstance(one, _Rejected)]
    return Export(spans=tuple(read), rejected=len(rejected), reason=str(rejected[0]) if rejected else None)


def _protobuf_spans(request: ExportTraceServiceRequest) -> Iterator[Span | _Rejected]:
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                try:
                    yield Span(
                        trace_id=_id(span.trace_id, _TRACE_ID_BYTES, "traceId"),
                        span_id=_id(span.span_id, _SPAN_ID_BYTES, "spanId"),
                        parent_id=span.parent_span_id.hex() or None,
                        name=span.name,
                        start_ns=span.start_time_unix_nano,
                        end_ns=span.end_time_unix_nano,
                        attributes=_attributes(span.attributes),
                        events=tuple(
                            SpanEvent(name=event.name, attributes=_attributes(event.attributes))
                            for event in span.events
                        ),
                        resource=resource,
                        dropped=span.dropped_attributes_count,
                    )
                except _Rejected as rejected:
                    yield rejected


def _id(value: bytes, length: int, name: str) -> str:
    if len(value) != length or not any(value):
        raise _Rejected(f"{name}: should be {length} bytes, not all zero")
    return value.hex()


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: _any(pair.value, _DEEPEST) for pair in pairs}


def _any(value: AnyValue, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind is None or depth == 0:
        return None
    if kind == "array_value":
        return [_any(one, depth - 1) for one in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _any(pair.value, depth - 1) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind)


def _json_spans(request: Mapping[str, Any]) -> Iterator[Span | _Rejected]:
    for resource_spans in _objects(request, "resourceSpans"):
        resource = _json_attributes(_object(resource_spans, "resource"))
        for scope_spans in _objects(resource_spans, "scopeSpans"):
            for span in _objects(scope_spans, "spans"):
                try:
                    yield _json_span(span, resource)
                except _Rejected as rejected:
                    yield rejected


def _json_span(span: Mapping[str, Any], resource: dict[str, Any]) -> Span:
    name = span.get("name", "")
    return Span(
        trace_id=_hex(span.get("traceId"), _TRACE_ID_BYTES, "traceId"),
        span_id=_hex(span.get("spanId"), _SPAN_ID_BYTES, "spanId"),
        parent_id=_hex(parent, _SPAN_ID_BYTES, "parentSpanId") if (parent := span.get("parentSpanId")) else None,
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
        return _id(bytes.fromhex(value), length, name)
    except (TypeError, ValueError):
        raise _Rejected(f"{name}: should be {2 * length} hexadecimal digits") from None


def _whole(value: Any, name: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise _Rejected(f"{name}: should be a whole number") from None
    if not 0 <= number < 2**64:
        raise _Rejected(f"{name}: should be between 0 and 2^64")
    return number


def _json_attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {
        pair["key"]: _json_any(pair.get("value"), _DEEPEST)
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
