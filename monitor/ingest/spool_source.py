"""A spool as those see it who empty it."""

from datetime import datetime
from typing import Protocol

from monitor.ingest.spool_records import Spooled


class SpoolSource(Protocol):
    """`Spool` itself, or `SpoolTail` where another process writes it."""

    @property
    def acknowledged(self) -> int:
        """The position up to which nothing is needed any more."""

    @property
    def durable(self) -> int:
        """The position up to which records are on disk."""

    def read(self, after: int, *, limit: int, max_bytes: int = ...) -> list[Spooled]:
        """The next records after a position, in order; raises SpoolUnavailable."""

    def spooled_before(self, moment: datetime, *, after: int, limit: int = ...) -> tuple[int, int]:
        """How many of the next records were spooled before a moment, in order, and the position of the last."""

    def wait(self, after: int, *, seconds: float) -> bool:
        """Wait until there is a record after this position; false when there is none in that time."""

    def acknowledge(self, position: int) -> None:
        """Forget every record up to this position, some time soon."""

    def set_aside(self, position: int, reason: str) -> None:
        """Keep a copy of a record that cannot be sent. It still needs to be acknowledged."""
