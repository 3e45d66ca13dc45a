"""The spool's file: one SQLite database in write-ahead mode, owned by one process.

SQLite is the most widely used crash-safe store there is; docs/decisions/0004-sidecar-spool.md has the
figures beside hand-framed segments. What it does not do is notice a flipped bit inside a record's
bytes: therefore each record carries a CRC-32 of its own.
"""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from monitor.domain.errors import SpoolUnavailable
from monitor.ingest.salvage import Salvage, salvage, set_file_aside
from monitor.ingest.spool_lock import hold
from monitor.ingest.spool_records import (
    Entry,
    SetAside,
    Spooled,
    read_aside,
    read_records,
    record_checksum,
    spooled_before,
)

_log = logging.getLogger(__name__)

FILE_NAME = "spool.sqlite3"
VERSION = 1
"""Of the file's format, its `user_version`; 0 is a file in which nothing was made yet."""

_PAGE_BYTES = 8192
# Beyond the spool's limit, so that drained records can be deleted from a spool that is full.
_HOUSEKEEPING_PAGES = 128
_WAL_LIMIT_BYTES = 16 * 1024 * 1024
# Moving the log into the file makes a commit wait. Whoever reads along does most of it (`SpoolTail.checkpoint`); the
# writer does the rest when the log has grown to this.
_CHECKPOINT_PAGES = _WAL_LIMIT_BYTES // _PAGE_BYTES

_SCHEMA = f"""
pragma auto_vacuum = incremental;
pragma journal_mode = wal;
begin;
create table records (
    position integer primary key autoincrement,
    spooled_at integer not null,
    checksum integer not null,
    key blob not null,
    value blob not null
);
create table aside (
    position integer primary key,
    reason text not null,
    set_aside_at integer not null,
    key blob not null,
    value blob not null
);
pragma user_version = {VERSION};
commit;
"""

_SIZES = "select page_count, freelist_count from pragma_page_count, pragma_freelist_count"
_TOGETHER = 16
"""Records that one statement may append: SQLite keeps a statement for each number of them."""


def _insert(rows: int) -> str:
    return "insert into records values " + ", ".join(["(?, ?, ?, ?, ?)"] * rows)  # noqa: S608 - nothing of a sender's


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite found its own structure broken, rather than the disk full or slow."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SpoolFile:
    """Records in order on disk, behind an exclusive lock.

    One thread may commit while another reads; neither method set is safe for two threads at once.

    Args:
        directory: created when missing, readable by its owner only. Not shared between sidecars.
        max_bytes: the file's size stays below this and one mebibyte.
        sync: fsync each commit. Without it a commit survives the process, not a power cut.

    Raises:
        SpoolUnavailable: another process holds the directory, it cannot be written, or a newer
            groundwatch wrote the file.
    """

    def __init__(self, directory: Path, *, max_bytes: int, sync: bool) -> None:
        self._path = directory / FILE_NAME
        self._max_pages = max_bytes // _PAGE_BYTES + _HOUSEKEEPING_PAGES
        self._sync = sync
        self.salvaged: Salvage | None = None
        self._lock: int | None = hold(directory)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise SpoolUnavailable(f"{self._path}: {error}") from error
            self.recover()

    def _connect(self) -> None:
        self._writer = self._connection()
        # Each is checked for its own sake: reading a page for the first time is what finds it broken.
        if self._writer.execute("pragma user_version").fetchone()[0] == 0:
            self._writer.executescript(_SCHEMA)
        version = self._writer.execute("pragma user_version").fetchone()[0]
        if version != VERSION:
            raise SpoolUnavailable(f"{self._path} has format {version}; this groundwatch knows {VERSION}")
        self._reader = self._connection()
        # One aggregate a query: SQLite answers each from one end of the tree, but both at once by a scan.
        first = self._writer.execute("select min(position) from records").fetchone()[0]
        last = self._writer.execute("select max(position) from records").fetchone()[0]
        sequence = self._writer.execute("select seq from sqlite_sequence where name = 'records'").fetchone()
        self.last_position: int = max(last or 0, sequence[0] if sequence else 0)
        self.first_position: int = first or self.last_position + 1
        self.aside: int = self._writer.execute("select count(*) from aside").fetchone()[0]
        self.measure()

    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=5, isolation_level=None, check_same_thread=False)
        connection.execute(f"pragma page_size = {_PAGE_BYTES}")
        connection.execute(f"pragma synchronous = {'full' if self._sync else 'normal'}")
        connection.execute(f"pragma max_page_count = {self._max_pages}")
        connection.execute(f"pragma wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"pragma journal_size_limit = {_WAL_LIMIT_BYTES}")
        return connection

    def measure(self) -> None:
        """Bring `used_bytes` up to date: `commit` leaves that for when nobody waits for it any more."""
        pages, self._free_pages = self._writer.execute(_SIZES).fetchone()
        self.used_bytes: int = (pages - self._free_pages) * _PAGE_BYTES

    def commit(
        self, *, append: Sequence[Entry], aside: Sequence[tuple[int, str]], acknowledged: int, now: datetime
    ) -> None:
        """Append records, copy others aside with a reason, forget all up to `acknowledged`: all or nothing.

        Raises:
            sqlite3.Error: nothing was done (or, if the disk itself failed, it is not known to be).
        """
        at = int(now.timestamp() * 1000)
        start = self.last_position + 1
        rows = [(start + n, at, record_checksum(e.key, e.value), e.key, e.value) for n, e in enumerate(append)]
        if 0 < len(rows) <= _TOGETHER and not aside and acknowledged < self.first_position:
            # One statement is a transaction of its own. Each more would give the interpreter away and wait for it.
            self._writer.execute(_insert(len(rows)), list(chain.from_iterable(rows)))
            self.last_position += len(rows)
            return
        with self._writer:
            self._writer.execute("begin immediate")
            self._writer.executemany(_insert(1), rows)
            copied = 0
            for position, reason in aside:
                copied += self._writer.execute(
                    "insert or ignore into aside select position, ?, ?, key, value from records where position = ?",
                    (reason, at, position),
                ).rowcount
            if acknowledged >= self.first_position:
                self._writer.execute("delete from records where position <= ?", (acknowledged,))
        self.last_position += len(rows)
        self.first_position = max(self.first_position, acknowledged + 1)
        self.aside += copied

    def read(self, after: int, *, limit: int, max_bytes: int) -> list[Spooled]:
        """The next records after a position: at most `limit`, and no more once `max_bytes` are passed."""
        return read_records(self._reader, after, limit=limit, max_bytes=max_bytes)

    def read_aside(self, after: int, *, limit: int, max_bytes: int) -> list[SetAside]:
        """As the function of this name."""
        return read_aside(self._reader, after, limit=limit, max_bytes=max_bytes)

    def forget_aside(self, positions: Sequence[int]) -> None:
        """Remove records that were set aside and are needed no longer: all or none.

        Raises:
            sqlite3.Error: none was.
        """
        with self._writer:
            self._writer.execute("begin immediate")
            self._writer.executemany("delete from aside where position = ?", [(position,) for position in positions])
        self.aside -= len(positions)

    def spooled_before(self, moment: datetime, *, after: int, limit: int) -> tuple[int, int]:
        """As the function of this name."""
        return spooled_before(self._reader, moment, after=after, limit=limit)

    def oldest(self) -> datetime | None:
        """When the record that waits longest was spooled."""
        row = self._reader.execute("select spooled_at from records order by position limit 1").fetchone()
        return datetime.fromtimestamp(row[0] / 1000, UTC) if row else None

    @property
    def inode(self) -> int | None:
        """Tells this file from one that had its name before; None while there is none."""
        try:
            return self._path.stat().st_ino
        except OSError:
            return None

    def shrink(self) -> None:
        """Give a slice of the drained space back to the file system; cheap when there is little."""
        if self._free_pages > _HOUSEKEEPING_PAGES:
            # Not execute(): the pragma frees one page a step, and yields no columns, so that execute() stops after one.
            self._writer.executescript(f"pragma incremental_vacuum({_HOUSEKEEPING_PAGES});")
            self.measure()

    def recover(self) -> None:
        """Put the broken file aside, take from it what can still be read, and go on with a new one."""
        self._disconnect()
        broken = set_file_aside(self._path)
        _log.error("the spool is damaged; kept as %s", broken)
        self._connect()
        self.salvaged = salvage(broken, into=self._writer)
        _log.error("salvaged %d records of the spool", self.salvaged.records)
        self._disconnect()
        highest = getattr(self, "last_position", 0)
        self._connect()
        # Readers hold positions: a number must not be given out twice, even if the file forgot it.
        self.last_position = max(self.last_position, highest)

    def close(self) -> None:
        """Release the directory; closing twice is no error."""
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _disconnect(self) -> None:
        for name in ("_reader", "_writer"):
            connection: sqlite3.Connection | None = getattr(self, name, None)
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
