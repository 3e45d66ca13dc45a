"""Spans of many traces, kept until each trace is whole, or has been waited for long enough."""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum

from monitor.spans.span import Span

_Key = tuple[str, str]
"""Owner and trace id: an owner cannot add to another's trace."""

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
    """All spans of one trace that came in time; `owner` is whose trace it is."""

    owner: str
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
        self._open: OrderedDict[_Key, _Open] = OrderedDict()
        self._done: OrderedDict[_Key, None] = OrderedDict()
        self._size = 0
        self._late = 0
        self._completed = dict.fromkeys(Completion, 0)

    @property
    def open(self) -> int:
        """Traces that are waited for."""
        return len(self._open)

    @property
    def late(self) -> int:
        """Spans that came after their trace was completed."""
        return self._late

    @property
    def waiting_bytes(self) -> int:
        """Of the spans that wait, by the sizes that `add` was told."""
        return self._size

    @property
    def completed(self) -> dict[str, int]:
        """Traces that were completed, by why; may be asked from another thread."""
        return {why.value: count for why, count in self._completed.items()}

    @property
    def oldest_position(self) -> int | None:
        """The first position of which a span is still here; None where nothing waits."""
        return min((trace.position for trace in self._open.values()), default=None)

    def add(self, span: Span, *, owner: str = "", position: int, size: int, now: float) -> None:
        """Take one span.

        Args:
            span: of any trace.
            owner: whose it is; the traces of two owners are never joined.
            position: of the record that it came in; later ones are larger.
            size: bytes that it takes, about.
            now: seconds, of a clock that never goes back.
        """
        key = (owner, span.trace_id)
        if key in self._done:
            self._late += 1
            return
        trace = self._open.get(key)
        if trace is None:
            trace = self._open[key] = _Open(position=position, first=now, last=now)
        self._open.move_to_end(key)
        trace.spans.append(span)
        trace.last = now
        trace.size += size
        trace.has_root |= span.parent_id is None
        self._size += size

    def due(self, now: float) -> list[Completed]:
        """Complete, and let go of, every trace that need not be waited for; the oldest first."""
        found = [(key, why) for key, trace in self._open.items() if (why := self._why(trace, now))]
        done = [self._complete(key, why) for key, why in found]
        while self._size > self._max_bytes and self._open:
            done.append(self._complete(next(iter(self._open)), Completion.MEMORY))
        return done

    def _why(self, trace: _Open, now: float) -> Completion | None:
        if trace.has_root and now - trace.last >= self._patience.settle:
            return Completion.ENDED
        if now - trace.last >= self._patience.idle:
            return Completion.IDLE
        return Completion.LIMIT if now - trace.first >= self._patience.limit else None

    def _complete(self, key: _Key, why: Completion) -> Completed:
        trace = self._open.pop(key)
        self._size -= trace.size
        self._completed[why] += 1
        self._done[key] = None
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
        return Completed(owner=key[0], trace_id=key[1], spans=tuple(trace.spans), why=why)
