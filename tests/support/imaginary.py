"""Traces that only simulated judges can judge: the truth is in the id."""

from collections.abc import Sequence
from datetime import UTC, datetime

from monitor.domain.trace import Document, Trace


def imaginary_trace(number: int) -> Trace:
    """Odd ones are hallucinated."""
    return Trace(
        trace_id=f"imagined-{number}",
        event_time=datetime(2026, 1, 1, tzinfo=UTC),
        tenant="acme",
        service="help",
        environment="production",
        question="",
        documents=(Document(id="d", text="text"),),
        answer="answer",
    )


def imaginary_traces(count: int, start: int = 0) -> Sequence[Trace]:
    """As many traces, half of them hallucinated."""
    return [imaginary_trace(number) for number in range(start, start + count)]


def is_hallucinated(trace: Trace) -> bool:
    """What is so."""
    return int(trace.trace_id.rpartition("-")[2]) % 2 == 1
