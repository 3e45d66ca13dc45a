"""What a spool holds, and how it is read from its file, by whoever has it open."""

import contextlib
import sqlite3
import zlib
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What is to be sent: a Kafka key and value."""

    key: bytes
    value: bytes

    @property
    def size(self) -> int:
        """About how many bytes of disk it takes."""
        return len(self.key) + len(self.value) + 48


@dataclass(frozen=True, kw_only=True, slots=True)
class Spooled:
    """A waiting record. `position` grows by one a record; `intact` is false when its checksum does not hold."""

    position: int
    entry: Entry
    intact: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SetAside:
    """A record that could not be sent, with why."""

    position: int
    reason: str
    entry: Entry


def record_checksum(key: bytes, value: bytes) -> int:
    """CRC-32 of a record: what tells a flipped bit."""
    return zlib.crc32(value, zlib.crc32(key))


def read_records(connection: sqlite3.Connection, after: int, *, limit: int, max_bytes: int) -> list[Spooled]:
    """The next records after a position: at most `limit`, and no more once `max_bytes` are passed."""
    rows = connection.execute(
        "select position, checksum, key, value from records where position > ? order by position limit ?",
        (after, limit),
    )
    found: list[Spooled] = []
    size = 0
    with contextlib.closing(rows):
        for position, checksum, key, value in rows:
            entry = Entry(key=key, value=value)
            found.append(Spooled(position=position, entry=entry, intact=record_checksum(key, value) == checksum))
            size += entry.size
            if size >= max_bytes:
                break
    return found


def read_aside(connection: sqlite3.Connection, after: int, *, limit: int, max_bytes: int) -> list[SetAside]:
    """The next records that were set aside after a position, bounded as those of `read_records`."""
    rows = connection.execute(
        "select position, reason, key, value from aside where position > ? order by position limit ?", (after, limit)
    )
    found: list[SetAside] = []
    size = 0
    with contextlib.closing(rows):
        for position, reason, key, value in rows:
            found.append(SetAside(position=position, reason=reason, entry=Entry(key=key, value=value)))
            size += found[-1].entry.size
            if size >= max_bytes:
                break
    return found


def spooled_before(connection: sqlite3.Connection, moment: datetime, *, after: int, limit: int) -> tuple[int, int]:
    """How many records right after a position were spooled before a moment, at most `limit`; the last's position.

    Reads their times only. Ends at the first that is younger, so that order is kept whatever the clock did.
    """
    before = int(moment.timestamp() * 1000)
    rows = connection.execute(
        "select position, spooled_at from records where position > ? order by position limit ?", (after, limit)
    )
    count, last = 0, after
    with contextlib.closing(rows):
        for position, spooled_at in rows:
            if spooled_at >= before:
                break
            count, last = count + 1, position
    return count, last


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolState:
    """What the spool holds. `records` and `bytes` wait; `aside` were refused by Kafka or damaged, and are kept."""

    records: int
    bytes: int
    max_bytes: int
    aside: int
    oldest: datetime | None
    problem: str | None
