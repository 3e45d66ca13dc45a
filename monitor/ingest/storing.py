"""From a request to the disk: within a deadline, and with a refusal that says when to try again."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress

from monitor.domain.errors import SpoolFull, SpoolUnavailable
from monitor.domain.trace import Trace
from monitor.ingest.counters import Refusal
from monitor.ingest.refused import RequestRefused
from monitor.ingest.spool import Spool
from monitor.ingest.spool_records import Entry
from monitor.wire import encode_trace

_RETRY_SECONDS = 5


def trace_entry(trace: Trace) -> Entry:
    """A trace as it is spooled and sent: keyed by tenant and id, so that its partition never changes."""
    return Entry(key=f"{trace.tenant}|{trace.trace_id}".encode(), value=encode_trace(trace))


async def store(spool: Spool, entries: Sequence[Entry], *, seconds: float) -> None:
    """Return once the entries are on disk.

    Raises:
        RequestRefused: 503; the spool is full, or the disk cannot be written or did not answer within `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            await _waiters().appended(spool, entries)
    except SpoolFull as error:
        raise RequestRefused(503, Refusal.SPOOL_FULL, str(error), retry_seconds=_RETRY_SECONDS) from error
    except (SpoolUnavailable, TimeoutError) as error:
        problem = str(error) or "the disk did not answer in time"
        raise RequestRefused(503, Refusal.SPOOL_UNAVAILABLE, problem, retry_seconds=_RETRY_SECONDS) from error


class _Waiters:
    """Those on one event loop that wait for the disk. All that one commit was for are woken by one call."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: dict[Future[None], asyncio.Future[None]] = {}
        self._settled: deque[Future[None]] = deque()
        self._wake = self._woken_soon  # one object, or each would count as another

    def appended(self, spool: Spool, entries: Sequence[Entry]) -> "asyncio.Future[None]":
        """Resolves on this loop as the spool's own future does."""
        appended = spool.append(entries, wake=self._wake)
        waiter = self._waiting[appended] = self.loop.create_future()
        # Where it has resolved already this appends at once, and the call that wakes comes after us on the loop.
        appended.add_done_callback(self._settled.append)
        return waiter

    def _woken_soon(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self.loop.call_soon_threadsafe(self._woken)

    def _woken(self) -> None:
        while self._settled:
            settled = self._settled.popleft()
            waiter = self._waiting.pop(settled)
            if waiter.done():  # its time was over, or its caller is gone
                continue
            if (error := settled.exception()) is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)


_last: _Waiters | None = None


def _waiters() -> _Waiters:
    """Of the running loop; a process that serves has one."""
    global _last  # noqa: PLW0603 - a place to find them again; each works for itself
    loop = asyncio.get_running_loop()
    waiters = _last
    if waiters is None or waiters.loop is not loop:
        waiters = _last = _Waiters(loop)
    return waiters
