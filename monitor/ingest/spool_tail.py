"""The reading end of a spool that another process writes.

SQLite in write-ahead mode lets one process write while others read. What is to become of the records (forgotten,
set aside, salvaged) is told to the writer, so that it stays the only one.
"""

import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from monitor.domain.errors import SpoolUnavailable
from monitor.ingest.spool_file import FILE_NAME, is_damage
from monitor.ingest.spool_records import Spooled, read_records, spooled_before

_GLANCE_SECONDS = 0.025
_BUSY_SECONDS = 5.0
_Answer = TypeVar("_Answer")


class SpoolTail:
    """Reads a spool's file. Every method may be called from any thread.

    Args:
        directory: of the spool; its writer has made it.
        acknowledge: tells the writer the position up to which nothing is needed any more.
        set_aside: tells it of a record to keep, and why.
        damaged: tells it that the file with this inode is; it will put another in its place.

    Raises:
        SpoolUnavailable: the file cannot be opened.
    """

    def __init__(
        self,
        directory: Path,
        *,
        acknowledge: Callable[[int], None],
        set_aside: Callable[[int, str], None],
        damaged: Callable[[int], None],
    ) -> None:
        self._path = directory / FILE_NAME
        self._acknowledge = acknowledge
        self._set_aside = set_aside
        self._damaged = damaged
        self._lock = threading.Lock()
        self._opened: tuple[int, sqlite3.Connection] | None = None
        self._durable = 0
        self._acknowledged = self._first_position() - 1

    @property
    def acknowledged(self) -> int:
        """The position up to which nothing is needed any more."""
        return self._acknowledged

    @property
    def durable(self) -> int:
        """The position up to which records are on disk; reads the file.

        Raises:
            SpoolUnavailable: it cannot be read.
        """
        last = self._single("select max(position) from records")
        self._durable = max(self._durable, last or 0)
        return self._durable

    def read(self, after: int, *, limit: int, max_bytes: int = 8 * 1024 * 1024) -> list[Spooled]:
        """As `Spool.read`.

        Raises:
            SpoolUnavailable: the file could not be read. If it is damaged, its writer has been told: read again.
        """
        return self._asked(lambda file: read_records(file, after, limit=limit, max_bytes=max_bytes))

    def spooled_before(self, moment: datetime, *, after: int, limit: int = 10_000) -> tuple[int, int]:
        """As `Spool.spooled_before`."""
        return self._asked(lambda file: spooled_before(file, moment, after=after, limit=limit))

    def wait(self, after: int, *, seconds: float) -> bool:
        """As `Spool.wait`."""
        deadline = time.monotonic() + seconds
        while self.durable <= after:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, _GLANCE_SECONDS))  # the writer is another process, and knows of no reader
        return True

    def acknowledge(self, position: int) -> None:
        """As `Spool.acknowledge`."""
        if position > self._acknowledged:
            self._acknowledged = position
            self._acknowledge(position)

    def set_aside(self, position: int, reason: str) -> None:
        """As `Spool.set_aside`."""
        self._set_aside(position, reason)

    def checkpoint(self) -> None:
        """Move what is in the log into the file, without making the writer wait: it then has less to move itself."""
        self._asked(lambda file: file.execute("pragma wal_checkpoint(passive)").fetchone())

    def close(self) -> None:
        """Let go of the file; closing twice is no error."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._opened:
            self._opened[1].close()
            self._opened = None

    def _first_position(self) -> int:
        first = self._single("select min(position) from records")
        if first is not None:
            return first
        return (self._single("select seq from sqlite_sequence where name = 'records'") or 0) + 1

    def _single(self, query: str) -> int | None:
        row = self._asked(lambda file: file.execute(query).fetchone())
        value: int | None = row[0] if row else None
        return value

    def _asked(self, question: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        with self._lock:
            try:
                return question(self._connection())
            except sqlite3.Error as error:
                raise self._unavailable(error) from error

    def _connection(self) -> sqlite3.Connection:
        """To the file that has the name now: a damaged one is renamed, and would never grow again."""
        try:
            inode = self._path.stat().st_ino
        except OSError as error:
            raise SpoolUnavailable(f"{self._path}: {error.strerror}") from error
        if self._opened and self._opened[0] != inode:
            self._close()
        if self._opened is None:
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._opened = inode, connection
        return self._opened[1]

    def _unavailable(self, error: sqlite3.Error) -> SpoolUnavailable:
        if self._opened and is_damage(error):
            self._damaged(self._opened[0])
        self._close()
        return SpoolUnavailable(f"the spool cannot be read: {error}")
