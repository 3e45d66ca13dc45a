"""Places to read a message in: few, for the memory's sake, and shared out so that no tenant has them all."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator

from monitor.ingest.counters import Refusal
from monitor.ingest.refused import RequestRefused

_RETRY_SECONDS = 1


class ReadPlaces:
    """Hands out places, in the order in which they are asked for.

    Args:
        places: at once.
        wait_seconds: how long a caller waits for one.
    """

    def __init__(self, places: int, *, wait_seconds: float) -> None:
        self._places = asyncio.Semaphore(places)
        # Callers whose tenant is not asked for are no strangers to one another.
        self._own = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(max(1, places // 2)))
        self._wait_seconds = wait_seconds

    @contextlib.asynccontextmanager
    async def one(self, tenant: str | None) -> AsyncIterator[None]:
        """A place until the context ends; a tenant has half of them at most.

        Raises:
            RequestRefused: 503, none came free in time.
        """
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._wait_seconds):
                    if tenant is not None:
                        await held.enter_async_context(self._own[tenant])
                    await held.enter_async_context(self._places)
            except TimeoutError:
                problem = "too many messages are being read at once"
                raise RequestRefused(503, Refusal.BUSY, problem, retry_seconds=_RETRY_SECONDS) from None
            yield
