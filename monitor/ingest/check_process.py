"""One life of the process that judges checks, as the receiving process sees it.

Three threads meet here: the event loop asks, one thread writes to the pipe (a process that does not read must not stop
the loop), and whoever calls `run` reads from it.
"""

import asyncio
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from queue import SimpleQueue

from monitor.domain.trace import Trace
from monitor.ingest.check_link import Asked, Ready, Said, Told, Unusable, Word

_log = logging.getLogger(__name__)

# Spawned, not forked: the parent has threads, and their locks would be copied as they are.
_PROCESSES = multiprocessing.get_context("spawn")
_END_SECONDS = 2.0


@dataclass(kw_only=True, slots=True)
class Pending:
    """A check under way. `over` is done once there is nothing more to be heard; `said` is the latest word."""

    asked: Asked
    owner: str | None
    loop: asyncio.AbstractEventLoop
    over: "asyncio.Future[None]"
    said: Said | None = None

    def end(self) -> None:
        """Tell whoever waits, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self.loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class CheckProcess:
    """A process, from its start on; `run` it to its end.

    Args:
        target: what it runs, with its end of the pipe; must be picklable, and end when the pipe does.
        most_waiting: checks that it has not done with, at most.
        loading_seconds: within which it must be ready.
    """

    def __init__(self, target: Callable[[Connection], None], *, most_waiting: int, loading_seconds: float) -> None:
        self._most = most_waiting
        self._loading_seconds = loading_seconds
        self._link, theirs = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(target=target, args=(theirs,), name="checks", daemon=True)
        self._process.start()
        # Only the child may hold its end, or its death would not end the pipe.
        theirs.close()
        self._lock = threading.Lock()
        self._pending: dict[int, Pending] = {}
        self._ended = False
        self._numbers = count()
        self._outgoing: SimpleQueue[int | None] = SimpleQueue()
        self._reads = threading.Event()
        self.ready: Ready | None = None
        self.problem: str | None = None

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Of the process, once it ended."""
        return self._process.exitcode

    @property
    def waiting(self) -> int:
        """Checks that it has not done with."""
        return len(self._pending)

    def ask(self, trace: Trace, until: float, owner: str | None) -> Pending | None:
        """Put a check to it, on the event loop; None where too many wait. One that has ended is over at once.

        An owner may not have more of them waiting than there are places left: so a newcomer always finds one.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            free = self._most - len(self._pending)
            own = 0 if owner is None else sum(one.owner == owner for one in self._pending.values())
            if own >= free:
                return None
            asked = Asked(number=next(self._numbers), trace=trace, until=until)
            pending = Pending(asked=asked, owner=owner, loop=loop, over=loop.create_future())
            if self._ended:
                pending.over.set_result(None)
                return pending
            self._pending[asked.number] = pending
        self._outgoing.put(asked.number)
        return pending

    def give_up(self, pending: Pending, *, patience_seconds: float) -> None:
        """Nobody waits for that check any more, on the event loop; kill it where it has not done with it even later."""
        if self.ready is None:
            # It never got there: while models are loaded, checks whose time is over must not count as waiting.
            with self._lock:
                self._pending.pop(pending.asked.number, None)
            return
        pending.loop.call_later(patience_seconds, self._end_if_pending, pending.asked.number)

    def _end_if_pending(self, number: int) -> None:
        if number in self._pending:
            _log.error("the judging process has not done with a check long after its time, and is killed")
            self._process.kill()

    def run(self) -> None:
        """Hear it until it ends; then everything that was asked of it is over."""
        writer = threading.Thread(target=self._write, name="check-writer", daemon=True)
        writer.start()
        try:
            if self._loads():
                while True:
                    self._hear(self._link.recv())
        except (EOFError, OSError):
            self._process.join(_END_SECONDS)
        except Exception:  # noqa: BLE001 - whatever it said: its successor may say better, and callers wait
            _log.exception("the judging process is not understood, and is ended")
        finally:
            self._process.kill()
            self._process.join()
            self._let_go()
            self._outgoing.put(None)
            self._reads.set()
            writer.join()
            self._link.close()

    def _loads(self) -> bool:
        """Hear it until it is ready, or ends; false where it takes too long."""
        deadline = time.monotonic() + self._loading_seconds
        while self.ready is None:
            if not self._link.poll(max(0.0, deadline - time.monotonic())):
                self.problem = f"the judges were not loaded within {self._loading_seconds:g} s"
                return False
            self._hear(self._link.recv())
        return True

    def stop(self) -> None:
        """End it: it has nothing that must be kept."""
        self._process.kill()

    def _write(self) -> None:
        self._reads.wait()
        while (number := self._outgoing.get()) is not None:
            pending = self._pending.get(number)
            if pending is None:
                continue
            try:
                self._link.send(pending.asked)
            except OSError:
                return  # it has ended, which `run` hears

    def _hear(self, message: Told) -> None:
        match message:
            case Word(number=number, said=said, last=last):
                self._heard(number, said, last=last)
            case Ready():
                self.ready = message
                self._reads.set()
            case Unusable(problem=problem):
                self.problem = problem

    def _heard(self, number: int, said: Said | None, *, last: bool) -> None:
        with self._lock:
            pending = self._pending.pop(number, None) if last else self._pending.get(number)
        if pending is None:
            return
        pending.said = said or pending.said
        if last:
            pending.end()

    def _let_go(self) -> None:
        with self._lock:
            self._ended = True
            pending = list(self._pending.values())
            self._pending.clear()
        for one in pending:
            one.end()
