"""`rag_trace.v1`: what RAG services send."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.errors import InvalidTrace
from monitor.domain.trace import Document, Trace
from monitor.wire.coding import check_clock, first_problem, to_bytes
from monitor.wire.fields import (
    LEAST_SAMPLING_PROBABILITY,
    LONGEST_DOCUMENT,
    LONGEST_DOCUMENT_ID,
    MAX_TRACE_BYTES,
    Contract,
    Identifier,
    Moment,
    Name,
    OtelTraceId,
    ShortText,
    Text,
    not_too_deep,
    storable_json,
    storable_text,
)

_TRACE = TypeAdapter(Trace)


class DocumentV1(Contract):
    """One retrieved document."""

    id: Annotated[str, Field(min_length=1, max_length=LONGEST_DOCUMENT_ID), AfterValidator(storable_text)]
    text: Annotated[str, Field(max_length=LONGEST_DOCUMENT), AfterValidator(storable_text)]
    score: float | None = None
    metadata: Annotated[
        dict[str, Any], Field(max_length=64), AfterValidator(not_too_deep), AfterValidator(storable_json)
    ] = Field(default_factory=dict)


class TraceV1(Contract):
    """`rag_trace.v1`: what RAG services send, with every limit stated."""

    schema_: Literal["rag_trace.v1"] = Field(default="rag_trace.v1", alias="schema")
    trace_id: Identifier
    event_time: Moment
    tenant: Name = "default"
    service: Name
    environment: Name = "production"
    question: Text
    documents: Annotated[tuple[DocumentV1, ...], Field(max_length=100)]
    answer: Text
    generator_model: ShortText | None = None
    prompt_version: ShortText | None = None
    tags: Annotated[dict[ShortText, ShortText], Field(max_length=32)] = Field(default_factory=dict)
    otel_trace_id: OtelTraceId | None = None
    otel_span_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    sampling_probability: Annotated[float, Field(ge=LEAST_SAMPLING_PROBABILITY, le=1)] = 1.0

    def to_domain(self) -> Trace:
        """The same trace, as the core knows it."""
        fields = {name: getattr(self, name) for name in TraceV1.model_fields if name != "schema_"}
        fields["documents"] = tuple(
            Document(id=doc.id, text=doc.text, score=doc.score, metadata=doc.metadata) for doc in self.documents
        )
        return Trace(**fields)


def decode_trace(raw: bytes, *, now: datetime) -> Trace:
    """Read one `rag_trace.v1`.

    Args:
        raw: UTF-8 JSON, at most `MAX_TRACE_BYTES`.
        now: the reader's clock, aware; it bounds the event time.

    Raises:
        InvalidTrace: names the first offending field and what is allowed there. `field` is `$` when the
            whole value is to blame: too large, or not JSON (a lone surrogate is not JSON text).
    """
    if len(raw) > MAX_TRACE_BYTES:
        raise _too_large(f"{len(raw)} bytes")
    try:
        message = TraceV1.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidTrace(*first_problem(error)) from None
    check_clock("event_time", message.event_time, now)
    trace = message.to_domain()
    _check_growth(trace, len(raw))
    return trace


def _check_growth(trace: Trace, size: int) -> None:
    # `1e15` comes out as `1000000000000000.0`: numbers in metadata can grow a trace about fourfold, past what
    # our topics take. Only a large trace can get there, so only those are encoded once more.
    if size > MAX_TRACE_BYTES // 5 and (grown := len(encode_trace(trace))) > MAX_TRACE_BYTES:
        raise _too_large(f"{grown} bytes with numbers written out")


def _too_large(size: str) -> InvalidTrace:
    return InvalidTrace("$", f"{size}; at most {MAX_TRACE_BYTES} are allowed", DeadLetterReason.TOO_LARGE)


def trace_to_json(trace: Trace) -> dict[str, Any]:
    """`rag_trace.v1` as a JSON value."""
    return {"schema": "rag_trace.v1", **_TRACE.dump_python(trace, mode="json")}


def encode_trace(trace: Trace) -> bytes:
    """`rag_trace.v1` as UTF-8 JSON."""
    return to_bytes(trace_to_json(trace))
