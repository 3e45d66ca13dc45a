"""What a stopped sidecar has left in a spool, for whoever sends it in its place.

records: accepted, acknowledged to the caller, never sent        aside: refused by Kafka, or damaged
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from monitor.domain.errors import SpoolUnavailable
from monitor.ingest.spool_file import FILE_NAME, VERSION, SpoolFile, is_damage
from monitor.ingest.spool_lock import hold_to_read
from monitor.ingest.spool_records import SetAside, Spooled, read_aside, read_records

_ANY_SIZE = 1 << 50
_MOST_BYTES = 8 * 1024 * 1024
_Answer = TypeVar("_Answer")


class DamagedSpool(SpoolUnavailable):
    """SQLite calls a spool's file malformed, and it was opened only to be looked at."""


class LeftBehind(Protocol):
    """The records of a spool whose sidecar is not running."""

    def waiting(self, after: int, *, limit: int) -> list[Spooled]:
        """The next accepted records after a position, in order; fewer than `limit` where they are large."""

    def aside(self, after: int, *, limit: int) -> list[SetAside]:
        """The next that were set aside, likewise."""


class SpoolLook:
    """Reads, and leaves every byte of the spool as it is."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    def waiting(self, after: int, *, limit: int) -> list[Spooled]:
        """As `LeftBehind`; raises DamagedSpool, or SpoolUnavailable."""
        with _reading(self._path):
            return read_records(self._connection, after, limit=limit, max_bytes=_MOST_BYTES)

    def aside(self, after: int, *, limit: int) -> list[SetAside]:
        """As `LeftBehind`; raises DamagedSpool, or SpoolUnavailable."""
        with _reading(self._path):
            return read_aside(self._connection, after, limit=limit, max_bytes=_MOST_BYTES)


class SpoolRemains:
    """Reads, and forgets what has reached Kafka; a damaged file is salvaged as a sidecar would."""

    def __init__(self, path: Path, file: SpoolFile) -> None:
        self._path = path
        self._file = file

    @property
    def salvaged(self) -> Path | None:
        """Where the damaged file is kept, if it was damaged."""
        return self._file.salvaged.kept_as if self._file.salvaged else None

    def waiting(self, after: int, *, limit: int) -> list[Spooled]:
        """As `LeftBehind`; raises SpoolUnavailable."""
        return self._asked(lambda: self._file.read(after, limit=limit, max_bytes=_MOST_BYTES))

    def aside(self, after: int, *, limit: int) -> list[SetAside]:
        """As `LeftBehind`; raises SpoolUnavailable."""
        return self._asked(lambda: self._file.read_aside(after, limit=limit, max_bytes=_MOST_BYTES))

    def forget(self, through: int, *, aside: Sequence[tuple[int, str]], now: datetime) -> None:
        """Forget accepted records up to a position; those in `aside` are kept among the others, each with a reason.

        Raises:
            SpoolUnavailable: nothing was done.
        """
        self._asked(lambda: self._file.commit(append=(), aside=aside, acknowledged=through, now=now))

    def forget_aside(self, positions: Sequence[int]) -> None:
        """Forget records that were set aside.

        Raises:
            SpoolUnavailable: nothing was done.
        """
        self._asked(lambda: self._file.forget_aside(positions))

    def _asked(self, question: Callable[[], _Answer]) -> _Answer:
        with _reading(self._path):
            try:
                return question()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                self._file.recover()
                return question()


@contextmanager
def look_into(directory: Path) -> Iterator[SpoolLook | None]:
    """Open a spool to read, locked for as long as the context lasts; None where there is none.

    Raises:
        SpoolUnavailable: a sidecar is running on it, it cannot be read, or a newer groundwatch wrote it.
        DamagedSpool: its structure is broken.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        yield None
        return
    lock = hold_to_read(directory)
    try:
        with _reading(path), contextlib.closing(_connection(path)) as connection:
            version = connection.execute("pragma user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise SpoolUnavailable(f"{path} has format {version}; this groundwatch knows {VERSION}")
            yield SpoolLook(path, connection) if version else None
    finally:
        if lock is not None:
            os.close(lock)


@contextmanager
def take_over(directory: Path) -> Iterator[SpoolRemains | None]:
    """Open a spool as a sidecar does, and as long as the context lasts keep sidecars out; None where there is none.

    Raises:
        SpoolUnavailable: a sidecar is running on it, or it cannot be read or written.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        yield None
        return
    file = SpoolFile(directory, max_bytes=_ANY_SIZE, sync=True)
    try:
        yield SpoolRemains(path, file)
    finally:
        file.close()


def _connection(path: Path) -> sqlite3.Connection:
    # Without a log all is in the file, and SQLite need not make one: nobody writes while the lock is held.
    log = path.with_name(f"{path.name}-wal")
    whole = not (log.exists() and log.stat().st_size)
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if whole else ''}", uri=True)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        kind = DamagedSpool if is_damage(error) else SpoolUnavailable
        raise kind(f"{path}: {error}") from error
