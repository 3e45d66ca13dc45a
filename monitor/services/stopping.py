"""Being told to stop, for processes that loop: in their main thread, or in an event loop."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

_GLANCE_SECONDS = 0.2


class Stop(Protocol):
    """What a loop asks between two rounds; `threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether to stop."""

    def wait(self, timeout: float) -> bool:
        """Rest for so many seconds, or until told to stop; whether to stop."""


class StopOnSignals:
    """Set by SIGTERM and Ctrl-C. Make it in the main thread.

    No `threading.Event`: its lock is not reentrant, so that a second signal, met while the handler of the first
    holds it, would hang the process for ever.
    """

    def __init__(self) -> None:
        self._told = False
        self._signal = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    @property
    def exit_code(self) -> int:
        """What a process that was told to stop ends with, as shells say it: 128 and the signal; 0 where none came."""
        return 128 + self._signal if self._told else 0

    def is_set(self) -> bool:
        """Whether a signal has come."""
        return self._told

    def wait(self, timeout: float) -> bool:
        """Rest for `timeout` seconds, or until a signal comes; whether one has come."""
        deadline = time.monotonic() + timeout
        while not self._told and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _GLANCE_SECONDS))
        return self._told

    def _hear(self, number: int, _: Any) -> None:
        self._signal = number
        self._told = True


@contextmanager
def stopping_on_signals() -> Iterator[StopOnSignals]:
    """`StopOnSignals` for a part of a command: afterwards signals do what they did before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield StopOnSignals()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def rest(stop: asyncio.Event, seconds: float) -> None:
    """Wait for so many seconds, or until told to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
