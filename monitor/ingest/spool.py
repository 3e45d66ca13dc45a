"""The spool: what the sidecar has acknowledged and Kafka does not have yet.

Its promise: once `append`'s future resolves, the records survive a crash of the process (with `sync`, also of
the machine) and are read back in order, until `acknowledge` says that they are no longer needed.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from monitor.domain.errors import SpoolFull, SpoolUnavailable
from monitor.ingest.salvage import Salvage
from monitor.ingest.spool_file import SpoolFile, is_damage
from monitor.ingest.spool_records import Entry, Spooled, SpoolState
from monitor.ingest.spool_work import Append, Work, settle

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

MAX_PENDING_BYTES = 64 * 1024 * 1024
"""Accepted but not on disk yet. Above this the disk is too slow, and the spool says that it is full."""

_IDLE_SECONDS = 1.0
# An acknowledgement alone is not worth an fsync at once: losing it costs a repeated record, never a lost one.
_ACKNOWLEDGE_SECONDS = 0.05
_RETRY_SECONDS = 0.25


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Spool:
    """A bounded, ordered, crash-safe queue on disk. Every method may be called from any thread.

    One thread writes: all requests that wait share one transaction and one fsync.

    Args:
        directory: its home; locked for as long as the spool is open.
        max_bytes: the file's limit; `append` raises SpoolFull rather than pass it.
        sync: fsync before a future resolves.
        clock: aware wall clock.

    Raises:
        SpoolUnavailable: the directory is in use, or cannot be written.
    """

    def __init__(
        self, directory: Path, *, max_bytes: int, sync: bool = True, clock: Callable[[], datetime] = _utc_now
    ) -> None:
        self._file = SpoolFile(directory, max_bytes=max_bytes, sync=sync)
        self._max_bytes = max_bytes
        self._clock = clock
        self._changed = threading.Condition()
        self._reading = threading.Lock()
        self._pending: list[Append] = []
        self._pending_bytes = 0
        self._aside: list[tuple[int, str]] = []
        self._acknowledged = self._file.first_position - 1
        self._durable = self._file.last_position
        self._problem: str | None = None
        self._damaged = False
        self._closing = False
        self._thread = threading.Thread(target=self._write, name="spool", daemon=True)
        self._thread.start()

    @property
    def acknowledged(self) -> int:
        """The position up to which nothing is needed any more."""
        return self._acknowledged

    @property
    def durable(self) -> int:
        """The position up to which records are on disk."""
        return self._durable

    @property
    def salvaged(self) -> Salvage | None:
        """What was found damaged since the spool was opened, if anything was."""
        return self._file.salvaged

    def append(self, entries: Sequence[Entry], *, wake: Callable[[], None] | None = None) -> "Future[None]":
        """Queue records for the next commit, all or none; the future resolves when they are on disk.

        Args:
            entries: the records.
            wake: called from another thread once the futures of all that was committed together have resolved; once,
                however many of them gave it. Must neither block nor raise.

        Raises:
            SpoolFull: they do not fit (at once, or through the future when the disk itself is full).
            SpoolUnavailable: the spool is closed (at once), or could not be written (through the future).
        """
        append = Append(entries=entries, size=sum(entry.size for entry in entries), wake=wake)
        with self._changed:
            if self._closing:
                raise SpoolUnavailable("the spool is closed")
            if self._file.used_bytes + self._pending_bytes + append.size > self._max_bytes:
                raise SpoolFull(f"the spool has reached its limit of {self._max_bytes} bytes")
            if self._pending_bytes + append.size > MAX_PENDING_BYTES:
                raise SpoolFull("the spool's disk does not keep up")
            self._pending.append(append)
            self._pending_bytes += append.size
            self._changed.notify_all()
        return append.done

    def read(self, after: int, *, limit: int, max_bytes: int = 8 * 1024 * 1024) -> list[Spooled]:
        """The next durable records after a position, in order; empty when there are none.

        Raises:
            SpoolUnavailable: the file could not be read. If it is damaged, it is now being salvaged: read again.
        """
        return self._read(lambda file: file.read(after, limit=limit, max_bytes=max_bytes))

    def spooled_before(self, moment: datetime, *, after: int, limit: int = 10_000) -> tuple[int, int]:
        """How many of the next durable records were spooled before a moment, in order, and the position of the last.

        Raises:
            SpoolUnavailable: as `read`.
        """
        return self._read(lambda file: file.spooled_before(moment, after=after, limit=limit))

    def _read(self, question: Callable[[SpoolFile], _Answer]) -> _Answer:
        try:
            with self._reading:
                return question(self._file)
        except sqlite3.Error as error:
            if is_damage(error):
                self.report_damage()
            raise SpoolUnavailable(f"the spool cannot be read: {error}") from error

    def wait(self, after: int, *, seconds: float) -> bool:
        """Wait until a record after this position is durable; false when there is none in that time."""
        with self._changed:
            self._changed.wait_for(lambda: self._durable > after or self._closing, timeout=seconds)
            return self._durable > after

    def acknowledge(self, position: int) -> None:
        """Forget every record up to this position, some time soon: after a crash a few may be read again."""
        with self._changed:
            # Once the writer knows, it is left to gather more: a wake-up a record would put it off for ever.
            idle = self._acknowledged < self._file.first_position
            self._acknowledged = max(self._acknowledged, position)
            if idle:
                self._changed.notify_all()

    def set_aside(self, position: int, reason: str) -> None:
        """Keep a copy of a record that cannot be sent, for a person to look at. It still needs to be acknowledged."""
        with self._changed:
            self._aside.append((position, reason))
            self._changed.notify_all()

    def report_damage(self, inode: int | None = None) -> None:
        """Another reader found the file's structure broken: salvage it, unless another file took its place already."""
        with self._changed:
            if inode is not None and inode != self._file.inode:
                return
            self._damaged = True
            self._changed.notify_all()

    def state(self) -> SpoolState:
        """Counts, bytes and trouble. Reads the disk."""
        try:
            with self._reading:
                oldest = self._file.oldest()
        except sqlite3.Error:
            oldest = None
        with self._changed:
            return SpoolState(
                records=max(0, self._durable - max(self._acknowledged, self._file.first_position - 1)),
                bytes=self._file.used_bytes,
                max_bytes=self._max_bytes,
                aside=self._file.aside,
                oldest=oldest if self._durable > self._acknowledged else None,
                problem=self.problem,
            )

    @property
    def problem(self) -> str | None:
        """Why an append would fail now, if it would; does not touch the disk."""
        if self._closing:
            return "the spool is closed"
        if self._problem is None and self._file.used_bytes >= self._max_bytes:
            return f"the spool has reached its limit of {self._max_bytes} bytes"
        return self._problem

    def close(self, *, seconds: float = 10.0) -> None:
        """Commit what is queued, stop, release the directory."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout=seconds)
        if self._thread.is_alive():
            _log.error("the spool's disk did not answer within %s s", seconds)
            return
        with self._reading:
            self._file.close()

    def _write(self) -> None:
        while (work := self._next_work()) is not None:
            if self._damaged:
                self._recover()
            self._commit(work)

    def _next_work(self) -> Work | None:
        with self._changed:
            while not (self._pending or self._aside or self._damaged):
                behind = self._acknowledged >= self._file.first_position
                if self._closing and not behind:
                    return None
                seconds = _ACKNOWLEDGE_SECONDS if behind else _IDLE_SECONDS
                if self._closing or not self._changed.wait(seconds):
                    if behind or self._problem:
                        break
                    self._shrink()
            work = Work(appends=self._pending, aside=self._aside, acknowledged=self._acknowledged)
            self._pending, self._aside = [], []
            return work

    def _shrink(self) -> None:
        try:
            self._file.shrink()
        except sqlite3.Error as error:
            _log.warning("the spool cannot be shrunk: %s", error)

    def _recover(self) -> None:
        try:
            with self._reading:
                self._file.recover()
            self._damaged = False
        except (sqlite3.Error, OSError) as error:
            _log.critical("the spool is damaged and cannot be salvaged: %s", error)

    def _commit(self, work: Work) -> None:
        entries = [entry for append in work.appends for entry in append.entries]
        try:
            self._file.commit(append=entries, aside=work.aside, acknowledged=work.acknowledged, now=self._clock())
        except sqlite3.Error as error:
            self._fail(work, error)
            return
        with self._changed:
            self._problem = None
            self._durable = self._file.last_position
            self._changed.notify_all()
        settle(work.appends, None)
        self._measure(work)

    def _measure(self, work: Work) -> None:
        """Behind the answers; until then what was appended counts as waiting, so that the limit holds meanwhile."""
        try:
            self._file.measure()
        except sqlite3.Error as error:
            _log.warning("the spool cannot be measured: %s", error)
        with self._changed:
            self._pending_bytes -= sum(append.size for append in work.appends)

    def _fail(self, work: Work, error: sqlite3.Error) -> None:
        problem = f"the spool cannot be written: {error}"
        _log.error(problem)
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        with self._changed:
            self._problem = problem
            self._damaged = self._damaged or is_damage(error)
            self._pending_bytes -= sum(append.size for append in work.appends)
            self._aside = work.aside + self._aside
            if self._closing:
                # Nothing is lost: the records are still in the file, and are read again by the next sidecar.
                self._aside, self._acknowledged, self._damaged = [], self._file.first_position - 1, False
        settle(work.appends, SpoolFull(problem) if full else SpoolUnavailable(problem))
        if not self._closing:
            time.sleep(_RETRY_SECONDS)
