"""Every export that was acknowledged, passed on unchanged to another OTLP endpoint: the team's own collector.

Never in the way: `offer` puts an export into a bounded queue and returns. A thread of its own sends one at a time, so
that order is kept, tries again what may succeed later, and gives up what has failed for too long.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from monitor.ingest.tee_counters import NoTeeCounters, TeeCounters, TeeDrop, TeeState
from monitor.ingest.tee_queue import PassedExport, TeeQueue
from monitor.ingest.tee_target import TeeTarget, is_final, is_taken, retry_after
from monitor.outbound import AsyncHttpClient, OutboundError

_log = logging.getLogger(__name__)

_LARGEST_ANSWER = 64 * 1024
_LONGEST_WAIT_SECONDS = 120.0


class Tee:
    """Passes exports on.

    Args:
        target: where to.
        max_bytes: of exports that wait in memory; when they are more, the oldest are dropped.
        counters: told of what becomes of each.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        target: TeeTarget,
        *,
        max_bytes: int,
        counters: TeeCounters | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._queue = TeeQueue(max_bytes)
        self._counters = counters or NoTeeCounters()
        self._clock = clock
        self._forwarded = 0
        self._retries = 0
        self._problem: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._limit: asyncio.Timeout | None = None
        self._thread = threading.Thread(target=self._run, name="tee", daemon=True)

    @property
    def state(self) -> TeeState:
        """What it is about."""
        waiting, size = self._queue.waiting
        return TeeState(
            forwarded=self._forwarded,
            dropped=self._queue.dropped,
            retries=self._retries,
            waiting=waiting,
            waiting_bytes=size,
            problem=self._problem,
        )

    def start(self) -> None:
        """Begin to send."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def offer(self, body: bytes, *, encoding: str, compression: str) -> None:
        """Pass an export on, some time: neither waits nor raises. From any thread, until `finish`.

        Args:
            body: as it was sent.
            encoding: one of `monitor.otlp`.
            compression: the content encoding; may be empty.
        """
        if dropped := self._queue.put(PassedExport(body=body, encoding=encoding, compression=compression)):
            self._counters.dropped(TeeDrop.FULL, dropped)
        self._tell_thread(self._wake.set)

    def finish(self, *, seconds: float) -> None:
        """Nothing more comes: send what waits for so long, and not at all to an endpoint that fails; then stop."""
        self._tell_thread(lambda: self._finish(seconds))

    def join(self, *, seconds: float) -> None:
        """Return when it has stopped, or after so long."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _tell_thread(self, call: Callable[[], object]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                self._loop.call_soon_threadsafe(call)

    def _finish(self, seconds: float) -> None:
        self._stopping.set()
        self._wake.set()
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + seconds)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop or asyncio.new_event_loop()) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        seconds = self._target.seconds
        client = AsyncHttpClient(deadline_seconds=seconds, max_answer_bytes=_LARGEST_ANSWER, connections=1)
        with contextlib.suppress(TimeoutError, _Hopeless):
            async with client, asyncio.timeout(None) as self._limit:
                while (export := await self._next()) is not None:
                    await self._pass_on(client, export)
        if left := self._queue.drop_all(TeeDrop.STOPPED):
            self._counters.dropped(TeeDrop.STOPPED, left)
            _log.warning("%d exports were not passed on by the tee before the sidecar stopped", left)

    async def _next(self) -> PassedExport | None:
        while True:
            self._wake.clear()
            if (export := self._queue.take()) is not None:
                return export
            if self._stopping.is_set():
                return None
            await self._wake.wait()

    async def _pass_on(self, client: AsyncHttpClient, export: PassedExport) -> None:
        gives_up, failures = self._clock() + self._target.give_up_seconds, 0
        while (wait := await self._attempt(client, export)) is not None:
            failures += 1
            if self._stopping.is_set():
                raise _Hopeless
            wait = max(min(wait, _LONGEST_WAIT_SECONDS), self._target.backoff.seconds(failures))
            if self._clock() + wait > gives_up:
                self._drop(TeeDrop.GAVE_UP)
                return
            self._retries += 1
            self._counters.retried()
            await self._pause(wait)

    async def _attempt(self, client: AsyncHttpClient, export: PassedExport) -> float | None:
        """None when nothing is left to do for it, else the seconds that the endpoint asks for before the next one."""
        try:
            answer = await client.post(self._target.url, export.body, {**self._target.headers, **export.headers})
        except OutboundError as error:
            self._failed(str(error))
            return 0.0
        except Exception as error:  # noqa: BLE001 - a defect must not end the only thread that empties the queue
            _log.exception("the tee failed unforeseen; it goes on")
            self._failed(type(error).__name__)
            return 0.0
        if is_taken(answer):
            self._passed_on()
            return None
        self._failed(f"the endpoint answered {answer.status}")
        if is_final(answer):
            self._drop(TeeDrop.REFUSED)
            return None
        return retry_after(answer, now=datetime.now(UTC))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _passed_on(self) -> None:
        if self._problem is not None:
            _log.warning("the tee's endpoint takes exports again")
        self._problem = None
        self._forwarded += 1
        self._queue.done()
        self._counters.passed_on()
        self._counters.waiting(self._queue.waiting[1])

    def _drop(self, reason: TeeDrop) -> None:
        self._queue.done(dropped=reason)
        self._counters.dropped(reason, 1)
        self._counters.waiting(self._queue.waiting[1])

    def _failed(self, problem: str) -> None:
        if self._problem is None:
            _log.warning("the tee's endpoint does not take exports: %s", problem)
        self._problem = problem
        self._counters.waiting(self._queue.waiting[1])


class _Hopeless(Exception):
    """The endpoint fails, and there is no time to wait for it."""
