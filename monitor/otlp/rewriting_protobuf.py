"""An export in protobuf with other texts and numbers in it."""

import re
import struct
from collections.abc import Iterable, Iterator

from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from monitor.otlp.export import SPAN_ID_BYTES, TRACE_ID_BYTES
from monitor.otlp.rewriting import Rewriting

# Fields 3 and 4 of AnyValue: an integer of more than 40 bits, and a double from 10^12 to 10^19.
_INTEGER = re.compile(rb"\x18([\x80-\xff]{5,8}[\x01-\x7f])")
_DOUBLE = re.compile(rb"!(.{7}[BC])", re.DOTALL)


_ID_BYTES = {"trace_id": TRACE_ID_BYTES, "span_id": SPAN_ID_BYTES, "parent_span_id": SPAN_ID_BYTES}


def rewrite_protobuf(raw: bytes, rewriting: Rewriting) -> bytes:
    """Every text of an export, rewritten: names, keys, values, states, messages; and the numbers of attributes.

    Times, counts and ids stay, but for ids that are none by their length. What the schema does not know is left out.
    """
    request = ExportTraceServiceRequest.FromString(raw)
    request.DiscardUnknownFields()
    for resource_spans in request.resource_spans:
        _texts(resource_spans, ("schema_url",), rewriting)
        _pairs(resource_spans.resource.attributes, rewriting)
        for scope_spans in resource_spans.scope_spans:
            _texts(scope_spans, ("schema_url",), rewriting)
            _texts(scope_spans.scope, ("name", "version"), rewriting)
            _pairs(scope_spans.scope.attributes, rewriting)
            for span in scope_spans.spans:
                _span(span, rewriting)
    return request.SerializeToString()


def large_numbers(raw: bytes) -> Iterator[float]:
    """The numbers of attributes that have 13 to 19 digits, and some that are none; cheap."""
    for match in _INTEGER.finditer(raw):
        yield sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(match[1]))
    for match in _DOUBLE.finditer(raw):
        yield struct.unpack("<d", match[1])[0]


def _span(span: Span, rewriting: Rewriting) -> None:
    _ids(span, rewriting)
    _texts(span, ("name", "trace_state"), rewriting)
    _texts(span.status, ("message",), rewriting)
    _pairs(span.attributes, rewriting)
    for event in span.events:
        _texts(event, ("name",), rewriting)
        _pairs(event.attributes, rewriting)
    for link in span.links:
        _ids(link, rewriting)
        _texts(link, ("trace_state",), rewriting)
        _pairs(link.attributes, rewriting)


def _ids(message: Span | Span.Link, rewriting: Rewriting) -> None:
    """Those stay that are ids by their length; what else stands in their place may be anything."""
    for name, length in _ID_BYTES.items():
        value = getattr(message, name, b"")
        if len(value) not in (0, length):
            setattr(message, name, rewriting.binary(value))


def _texts(message: Message, names: Iterable[str], rewriting: Rewriting) -> None:
    for name in names:
        text = getattr(message, name)
        # Setting would also make the message be there where it was absent.
        if (kept := rewriting.text(text)) != text:
            setattr(message, name, kept)


def _pairs(pairs: Iterable[KeyValue], rewriting: Rewriting) -> None:
    for pair in pairs:
        pair.key = rewriting.text(pair.key)
        _value(pair.value, rewriting)


def _value(value: AnyValue, rewriting: Rewriting) -> None:
    """Protobuf's own limit on nesting bounds the recursion."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        value.string_value = rewriting.text(value.string_value)
    elif kind == "array_value":
        for one in value.array_value.values:
            _value(one, rewriting)
    elif kind == "kvlist_value":
        _pairs(value.kvlist_value.values, rewriting)
    elif kind == "bytes_value":
        value.bytes_value = rewriting.binary(value.bytes_value)
    elif kind in ("int_value", "double_value") and (mark := rewriting.number(getattr(value, kind))) is not None:
        value.string_value = mark
