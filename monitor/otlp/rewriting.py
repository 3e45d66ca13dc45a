"""An export with other texts in it."""

from collections.abc import Callable, Iterable

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Rewrite = Callable[[str], str]


def rewrite_protobuf(raw: bytes, rewrite: Rewrite) -> bytes:
    """Every text of an export, rewritten: names, keys, values, states, messages.

    Ids stay. What the schema does not know is left out. Bytes are taken for text, in UTF-8 or else in Latin-1.
    """
    request = ExportTraceServiceRequest.FromString(raw)
    request.DiscardUnknownFields()
    for resource_spans in request.resource_spans:
        resource_spans.schema_url = rewrite(resource_spans.schema_url)
        _pairs(resource_spans.resource.attributes, rewrite)
        for scope_spans in resource_spans.scope_spans:
            scope_spans.schema_url = rewrite(scope_spans.schema_url)
            scope_spans.scope.name = rewrite(scope_spans.scope.name)
            scope_spans.scope.version = rewrite(scope_spans.scope.version)
            _pairs(scope_spans.scope.attributes, rewrite)
            for span in scope_spans.spans:
                _span(span, rewrite)
    return request.SerializeToString()


def _span(span: Span, rewrite: Rewrite) -> None:
    span.name = rewrite(span.name)
    span.trace_state = rewrite(span.trace_state)
    span.status.message = rewrite(span.status.message)
    _pairs(span.attributes, rewrite)
    for event in span.events:
        event.name = rewrite(event.name)
        _pairs(event.attributes, rewrite)
    for link in span.links:
        link.trace_state = rewrite(link.trace_state)
        _pairs(link.attributes, rewrite)


def _pairs(pairs: Iterable[KeyValue], rewrite: Rewrite) -> None:
    for pair in pairs:
        pair.key = rewrite(pair.key)
        _value(pair.value, rewrite)


def _value(value: AnyValue, rewrite: Rewrite) -> None:
    """Protobuf's own limit on nesting bounds the recursion."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        value.string_value = rewrite(value.string_value)
    elif kind == "array_value":
        for one in value.array_value.values:
            _value(one, rewrite)
    elif kind == "kvlist_value":
        _pairs(value.kvlist_value.values, rewrite)
    elif kind == "bytes_value":
        value.bytes_value = _bytes(value.bytes_value, rewrite)


def _bytes(value: bytes, rewrite: Rewrite) -> bytes:
    try:
        return rewrite(value.decode()).encode()
    except UnicodeDecodeError:
        return rewrite(value.decode("latin-1")).encode("latin-1", errors="replace")
