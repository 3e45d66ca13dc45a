"""OTLP exports of one recorded trace each, in both encodings, and as requests with the right statuses."""

import json
import random
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.examples.spans import FILES, recorded_bytes

PROTOBUF, JSON = "application/x-protobuf", "application/json"
READ, REFUSED, EITHER = frozenset({200}), frozenset({400}), frozenset({200, 400})
TRACE_ID_BYTES = 16
Made = tuple[bytes, Mapping[str, str], frozenset[int]]
"""Body, headers, and the statuses that are right for it."""


def one_trace(dice: random.Random) -> ExportTraceServiceRequest:
    """All spans of one recorded trace, under a trace id of its own."""
    traces = _traces(dice.choice(FILES))
    request = ExportTraceServiceRequest()
    request.CopyFrom(traces[dice.randrange(len(traces))])
    trace_id = dice.randbytes(TRACE_ID_BYTES)
    for span in spans_of(request):
        span.trace_id = trace_id
    return request


@cache
def _traces(file: str) -> list[ExportTraceServiceRequest]:
    whole = ExportTraceServiceRequest.FromString(recorded_bytes(file, "pb"))
    (resource_spans,) = whole.resource_spans
    found: dict[bytes, ExportTraceServiceRequest] = {}
    for scope_spans in resource_spans.scope_spans:
        for span in scope_spans.spans:
            request = found.setdefault(span.trace_id, ExportTraceServiceRequest())
            if not request.resource_spans:
                request.resource_spans.add().resource.CopyFrom(resource_spans.resource)
                request.resource_spans[0].scope_spans.add().scope.CopyFrom(scope_spans.scope)
            request.resource_spans[0].scope_spans[0].spans.add().CopyFrom(span)
    return list(found.values())


def spans_of(request: ExportTraceServiceRequest) -> Any:
    """Its spans."""
    return request.resource_spans[0].scope_spans[0].spans


def trace_bytes(dice: random.Random) -> bytes:
    """The same, written."""
    return one_trace(dice).SerializeToString()


def trace_json(dice: random.Random) -> dict[str, Any]:
    """The same in OTLP's JSON."""
    file = dice.choice(FILES)
    (resource_spans,) = _recorded_json(file)["resourceSpans"]
    (scope_spans,) = resource_spans["scopeSpans"]
    some = dice.choice(scope_spans["spans"])["traceId"]
    new = dice.randbytes(TRACE_ID_BYTES).hex()
    spans = [{**span, "traceId": new} for span in scope_spans["spans"] if span["traceId"] == some]
    resource = resource_spans["resource"]
    return deepcopy({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]})


@cache
def _recorded_json(file: str) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(recorded_bytes(file, "json"))
    return whole


def as_protobuf(body: bytes, statuses: frozenset[int] = EITHER, **headers: str) -> Made:
    """A request in protobuf."""
    return body, {"content-type": PROTOBUF, **{k.replace("_", "-"): v for k, v in headers.items()}}, statuses


def as_json(body: bytes | Any, statuses: frozenset[int] = EITHER) -> Made:
    """A request in JSON."""
    return body if isinstance(body, bytes) else json.dumps(body).encode(), {"content-type": JSON}, statuses


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    length, head = len(content), bytearray([number << 3 | 2])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + content
