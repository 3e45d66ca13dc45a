"""Files that are replaced while a process runs: tokens, certificates."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

_LOOK_SECONDS = 1.0
_Mark = tuple[int, int, int, int]


class WatchedFiles:
    """Tells when files are no longer what they were; looks at them at most once a second, and does not read them.

    A file that is replaced, written to, taken away, or given to others to read or write is not what it was. Names are
    followed to the end of their links, as mounted secrets are links.
    """

    def __init__(self, *paths: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._paths = paths
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: list[_Mark | None] | None = [_mark(path) for path in paths]
        self._looked = clock()

    def changed(self) -> bool:
        """Whether they are others than when this was last true; one of several threads is told."""
        if self._clock() - self._looked < _LOOK_SECONDS:
            return False
        with self._lock:
            self._looked = self._clock()
            marks = [_mark(path) for path in self._paths]
            if marks == self._seen:
                return False
            self._seen = marks
            return True

    def forget(self) -> None:
        """They could not be read as they are now: `changed` is true again, at the next look."""
        with self._lock:
            self._seen = None


def _mark(path: Path) -> _Mark | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # The last of them tells of a new owner or mode.
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
