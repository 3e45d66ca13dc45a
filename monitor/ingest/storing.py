"""From a request to the disk: within a deadline, and with a refusal that says when to try again."""

import asyncio
from collections.abc import Sequence

from monitor.domain.errors import SpoolFull, SpoolUnavailable
from monitor.domain.trace import Trace
from monitor.ingest.counters import Refusal
from monitor.ingest.refused import RequestRefused
from monitor.ingest.spool import Spool
from monitor.ingest.spool_file import Entry
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
            await asyncio.wrap_future(spool.append(entries))
    except SpoolFull as error:
        raise RequestRefused(503, Refusal.SPOOL_FULL, str(error), retry_seconds=_RETRY_SECONDS) from error
    except (SpoolUnavailable, TimeoutError) as error:
        problem = str(error) or "the disk did not answer in time"
        raise RequestRefused(503, Refusal.SPOOL_UNAVAILABLE, problem, retry_seconds=_RETRY_SECONDS) from error
