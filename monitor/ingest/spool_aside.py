"""Records that a sidecar set aside, for whoever mended what kept them from being sent."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from monitor.domain.errors import SpoolUnavailable
from monitor.ingest.spool_file import FILE_NAME, SpoolFile

_ANY_SIZE = 1 << 50


@dataclass(frozen=True, kw_only=True, slots=True)
class SetAside:
    """A record with why it was set aside."""

    position: int
    reason: str
    key: bytes
    value: bytes


class AsideShelf:
    """The records set aside in one spool, whose sidecar is not running."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def read(self, after: int, *, limit: int) -> list[SetAside]:
        """The next records after a position, in order."""
        rows = self._connection.execute(
            "select position, reason, key, value from aside where position > ? order by position limit ?",
            (after, limit),
        )
        return [SetAside(position=row[0], reason=row[1], key=row[2], value=row[3]) for row in rows]

    def forget(self, positions: Sequence[int]) -> None:
        """Remove records that are needed no longer."""
        with self._connection:
            self._connection.executemany(
                "delete from aside where position = ?", [(position,) for position in positions]
            )


@contextmanager
def aside_shelf(directory: Path) -> Iterator[AsideShelf | None]:
    """Open a spool's shelf, locked for as long as the context lasts; None where there is no spool.

    Raises:
        SpoolUnavailable: a sidecar is running on it, or it cannot be read.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        yield None
        return
    # Opening the spool as a sidecar does locks it, and salvages it where it is damaged.
    file = SpoolFile(directory, max_bytes=_ANY_SIZE, sync=True)
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            yield AsideShelf(connection)
    except sqlite3.Error as error:
        raise SpoolUnavailable(f"{path}: {error}") from error
    finally:
        file.close()
