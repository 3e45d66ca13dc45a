"""Exports that wait to be passed on: in memory, and no more than so many bytes."""

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from monitor.ingest.tee_counters import TeeDrop
from monitor.otlp import CONTENT_TYPES

# What an export costs beside its body; without it, empty ones would be free.
_OVERHEAD_BYTES = 512
_GZIP = ("gzip", "x-gzip")


@dataclass(frozen=True, kw_only=True, slots=True)
class PassedExport:
    """An export as it was sent."""

    body: bytes
    encoding: str
    compression: str

    @property
    def headers(self) -> dict[str, str]:
        """Those that say what the body is."""
        kind = {"content-type": CONTENT_TYPES[self.encoding]}
        return {**kind, "content-encoding": "gzip"} if self.compression.strip().lower() in _GZIP else kind

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return len(self.body) + _OVERHEAD_BYTES


class TeeQueue:
    """First in, first out; when there is no room for a new one, the oldest go. Safe for threads.

    The one that was taken last stays in memory, and counts, until `done`.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[PassedExport] = deque()
        self._taken: PassedExport | None = None
        self._bytes = 0
        self._dropped: Counter[TeeDrop] = Counter()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> tuple[int, int]:
        """How many wait, and their bytes, the one in hand included."""
        with self._lock:
            return len(self._waiting) + (self._taken is not None), self._bytes

    @property
    def dropped(self) -> Mapping[str, int]:
        """So many were dropped, by reason."""
        with self._lock:
            return {str(reason): count for reason, count in self._dropped.items() if count}

    def put(self, export: PassedExport) -> int:
        """Let it wait; how many were dropped: of the oldest, or this one where that would make no room."""
        dropped = 0
        with self._lock:
            in_hand = self._taken.size if self._taken else 0
            if in_hand + export.size > self._max_bytes:
                dropped = 1
            else:
                while self._bytes + export.size > self._max_bytes:
                    self._bytes -= self._waiting.popleft().size
                    dropped += 1
                self._waiting.append(export)
                self._bytes += export.size
            self._dropped[TeeDrop.FULL] += dropped
        return dropped

    def take(self) -> PassedExport | None:
        """The oldest; None where none waits."""
        with self._lock:
            if not self._waiting:
                return None
            self._taken = self._waiting.popleft()
            return self._taken

    def done(self, dropped: TeeDrop | None = None) -> None:
        """The one that was taken was passed on, or dropped for a reason."""
        with self._lock:
            assert self._taken is not None
            self._bytes -= self._taken.size
            self._taken = None
            if dropped:
                self._dropped[dropped] += 1

    def drop_all(self, reason: TeeDrop) -> int:
        """Drop what waits and what is in hand; how many."""
        with self._lock:
            count = len(self._waiting) + (self._taken is not None)
            self._waiting.clear()
            self._taken = None
            self._bytes = 0
            self._dropped[reason] += count
        return count
