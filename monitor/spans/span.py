"""A span, as far as a RAG trace can be read from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Attributes = Mapping[str, Any]
"""Values are what JSON knows: text, numbers, booleans, lists and objects."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanEvent:
    """Something that happened during a span."""

    name: str
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """One span of a trace.

    Attributes:
        trace_id, span_id, parent_id: lower-case hexadecimal; no parent is None.
        start_ns, end_ns: nanoseconds since 1970; 0 where its sender gave none.
        resource: attributes of the process that made it.
        dropped: attributes that its SDK dropped because of a limit.
        trace_state: W3C `tracestate` as sent.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    resource: Attributes = field(default_factory=dict)
    dropped: int = 0
    trace_state: str = ""
