"""Spans of many traces, kept until each trace is whole, or has been waited for long enough."""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum

from monitor.spans.span import Span

REMEMBERED = 100_000
"""Traces that were completed: a span that comes later is late, and makes no second trace."""


class Completion(StrEnum):
    """Why a trace is waited for no longer."""

    ENDED = "ended"
    """Its root has come, and nothing after it for a while."""
    IDLE = "idle"
    """Nothing has come for a longer while; its root is missing."""
    LIMIT = "limit"
    """It has gone on for too long."""
    MEMORY = "memory"
    """Others need its place: the one that was silent longest goes first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """Seconds by the collector's own clock: those of senders need not agree.

    Attributes:
        settle: after the last span of a trace whose root has come. Exporters send in batches, the root among the last.
        idle: after the last span of a trace without its root.
        limit: after its first span, whatever still comes.
    """

    settle: float = 3.0
    idle: float = 30.0
    limit: float = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """All spans of one trace that came in time."""

    trace_id: str
    spans: tuple[Span, ...]
    why: Completion


@dataclass(slots=True)
class _Open:
    position: int
    first: float
    last: float
    has_root: bool = False
    size: int = 0
    spans: list[Span] = field(default_factory=list)


class SpanCollector:
    """Spans by trace, in bounded memory. Not thread-safe.

    Args:
        patience: how long to wait for what.
        max_bytes: of all spans that wait, by the sizes that `add` is told.
    """

    def __init__(self, patience: Patience, *, max_bytes: int) -> None:
        self._patience = patience
        self._max_bytes = max_bytes
        # The one that was silent longest comes first.
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._done: OrderedDict[str, None] = OrderedDict()
        self._size = 0
        self._late = 0

    @property
    def open(self) -> int:
        """Traces that are waited for."""
        return len(self._open)

    @property
    def late(self) -> int:
        """Spans that came after their trace was completed."""
        return self._late

    @property
    def oldest_position(self) -> int | None:
        """The first position of which a span is still here; None where nothing waits."""
        return min((trace.position for trace in self._open.values()), default=None)

    def add(self, span: Span, *, position: int, size: int, now: float) -> None:
        """Take one span.

        Args:
            span: of any trace.
            position: of the record that it came in; later ones are larger.
            size: bytes that it takes, about.
            now: seconds, of a clock that never goes back.
        """
        if span.trace_id in self._done:
            self._late += 1
            return
        trace = self._open.get(span.trace_id)
        if trace is None:
            trace = self._open[span.trace_id] = _Open(position=position, first=now, last=now)
        self._open.move_to_end(span.trace_id)
        trace.spans.append(span)
        trace.last = now
        trace.size += size
        trace.has_root |= span.parent_id is None
        self._size += size

    def due(self, now: float) -> list[Completed]:
        """Complete, and let go of, every trace that need not be waited for; the oldest first."""
        found = [(trace_id, why) for trace_id, trace in self._open.items() if (why := self._why(trace, now))]
        done = [self._complete(trace_id, why) for trace_id, why in found]
        while self._size > self._max_bytes and self._open:
            done.append(self._complete(next(iter(self._open)), Completion.MEMORY))
        return done

    def _why(self, trace: _Open, now: float) -> Completion | None:
        if trace.has_root and now - trace.last >= self._patience.settle:
            return Completion.ENDED
        if now - trace.last >= self._patience.idle:
            return Completion.IDLE
        return Completion.LIMIT if now - trace.first >= self._patience.limit else None

    def _complete(self, trace_id: str, why: Completion) -> Completed:
        trace = self._open.pop(trace_id)
        self._size -= trace.size
        self._done[trace_id] = None
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
        return Completed(trace_id=trace_id, spans=tuple(trace.spans), why=why)
