"""The servers of the pool: which of them a call goes to, and how many calls each has.

Two that could take the call are drawn at random, and the one that is likelier to answer soon gets it (Mitzenmacher,
"The Power of Two Choices in Randomized Load Balancing"): always asking the best would send all workers there at once.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from monitor.inference.breaker import CircuitBreaker
from monitor.inference.concurrency import AdaptiveLimit
from monitor.inference.pool_protocol import Asking

_MEMORY_SECONDS = 30.0
_LEAST_SECONDS = 0.001
_FAILURE_WEIGHT = 10.0


class CircuitOpen(Exception):
    """No server may be asked now: every circuit is open."""


class FadingMean:
    """A mean of recent values that fades to zero without new ones: a server that was slow is tried again.

    Args:
        memory_seconds: after this long without a value, a third of the mean is left.
    """

    def __init__(self, *, memory_seconds: float = _MEMORY_SECONDS) -> None:
        self._memory = memory_seconds
        self._mean = 0.0
        self._at: float | None = None

    def add(self, value: float, now: float) -> None:
        """Take in a value at `now` (a steady clock, in seconds). Half of the mean is always the newest value."""
        self._mean = value if self._at is None else (self.at(now) + value) / 2
        self._at = now

    def at(self, now: float) -> float:
        """The mean as it stands at `now`."""
        return 0.0 if self._at is None else self._mean * math.exp(-max(0.0, now - self._at) / self._memory)


class Endpoint:
    """One server: its circuit, its limit, how it did lately, and how it likes to be asked."""

    def __init__(self, url: str, *, asking: Asking, breaker: CircuitBreaker, limit: AdaptiveLimit) -> None:
        self.url = f"{url.rstrip('/')}/chat/completions"
        # Without user and password: this is what logs and metrics show.
        self.name = urlsplit(url).netloc.rpartition("@")[2]
        self.asking = asking
        self.breaker = breaker
        self.limit = limit
        self.in_flight = 0
        self.rests_until = -math.inf
        self._seconds = FadingMean()
        self._failed = FadingMean()

    def answered(self, seconds: float, now: float) -> None:
        """A call was answered well after so long."""
        self._seconds.add(seconds, now)
        self._failed.add(0.0, now)
        self.limit.succeeded(in_flight=self.in_flight)

    def outrun(self, seconds: float, now: float) -> None:
        """A call was given up after so long, because another server answered first."""
        self._seconds.add(seconds, now)

    def failed(self, now: float) -> None:
        """A call failed, for whatever reason."""
        self._failed.add(1.0, now)

    def wait(self, now: float) -> float:
        """How long a call given to it now would take, about: lower is better, the unit means nothing."""
        seconds = max(_LEAST_SECONDS, self._seconds.at(now))
        return (self.in_flight + 1) * seconds * (1.0 + _FAILURE_WEIGHT * self._failed.at(now))

    def has_room(self) -> bool:
        """Whether another call may be under way."""
        return self.in_flight < self.limit.permits


class Slot:
    """The right to one call at an endpoint, until it is released; releasing twice is releasing once."""

    def __init__(self, endpoint: Endpoint, released: Callable[[], None]) -> None:
        self.endpoint = endpoint
        self._released: Callable[[], None] | None = released
        endpoint.in_flight += 1

    def release(self) -> None:
        """Give it back, and let someone who waits have it."""
        if self._released is not None:
            self.endpoint.in_flight -= 1
            self._released()
            self._released = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Endpoints:
    """All servers of the pool; for one event loop.

    Args:
        endpoints: at least one.
        stopwatch: a steady clock, in seconds.
        choice: draws; seed it for draws that can be repeated.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        stopwatch: Callable[[], float] = time.monotonic,
        choice: random.Random | None = None,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._stopwatch = stopwatch
        self._choice = choice or random.Random()  # noqa: S311 - spreads load, no secret
        # A dict for its order: who came first looks first.
        self._waiting: dict[asyncio.Future[None], None] = {}

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._endpoints)

    @property
    def is_open(self) -> bool:
        """Whether every circuit is open."""
        return all(endpoint.breaker.is_open for endpoint in self._endpoints)

    @property
    def capacity(self) -> int:
        """How many calls may be under way now; one where all circuits are open, to find out whether they may close."""
        return max(1, sum(endpoint.limit.permits for endpoint in self._endpoints if not endpoint.breaker.is_open))

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return sum(endpoint.in_flight for endpoint in self._endpoints)

    async def take(self, *, avoid: Collection[Endpoint] = ()) -> Slot:
        """A slot at a server that may be asked, as soon as there is one.

        Args:
            avoid: servers that just failed; asked only where no other has room.

        Raises:
            CircuitOpen: none may be asked.
        """
        while True:
            now = self._stopwatch()
            if not any(endpoint.breaker.would_allow(now) for endpoint in self._endpoints):
                raise CircuitOpen
            slot = self.take_now(avoid=avoid) or self.take_now()
            if slot is not None:
                return slot
            await self._room()

    def take_now(self, *, avoid: Collection[Endpoint] = ()) -> Slot | None:
        """A slot at a server that has room and is none of `avoid`; None where there is none."""
        now = self._stopwatch()
        fit = [
            endpoint
            for endpoint in self._endpoints
            if endpoint not in avoid and endpoint.has_room() and endpoint.breaker.would_allow(now)
        ]
        rested = [endpoint for endpoint in fit if endpoint.rests_until <= now]
        if not fit:
            return None
        chosen = self._best(rested or fit, now)
        chosen.breaker.allows(now)
        return Slot(chosen, self._wake)

    def other_than(self, endpoint: Endpoint) -> bool:
        """Whether another server may be asked now, and does not rest."""
        now = self._stopwatch()
        others = (other for other in self._endpoints if other is not endpoint)
        return any(other.breaker.would_allow(now) and other.rests_until <= now for other in others)

    def _best(self, fit: Sequence[Endpoint], now: float) -> Endpoint:
        # A circuit that is due for its one try gets it: its server would lose every comparison for a while.
        due = [endpoint for endpoint in fit if endpoint.breaker.is_open]
        if due:
            return due[0]
        drawn = self._choice.sample(fit, min(2, len(fit)))
        return min(drawn, key=lambda endpoint: endpoint.wait(now))

    async def _room(self) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = None
        try:
            await waiting
        finally:
            del self._waiting[waiting]

    def _wake(self) -> None:
        # All of them look again: who is cancelled right now must not take the news with it.
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
