"""Reading from Kafka, at least once: the one pattern for Faust that loses nothing.

Concurrency 1, no automatic acknowledgement, batches, and offsets declared only after the batch's effect is
durable (docs/decisions/0006 tells which other patterns lost records). Scale by processes
and partitions. Faust keeps no state, serves no web pages and creates no topics.
"""

import asyncio
import logging
import signal
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faust
from aiokafka.errors import KafkaConnectionError

from monitor.config import KafkaSettings
from monitor.domain.errors import LedgerUnavailable, StreamUnavailable
from monitor.streaming.connection import faust_credentials, servers
from monitor.streaming.durable import DurableConsumer
from monitor.streaming.topics import RECORD_OVERHEAD_BYTES
from monitor.wire import MAX_MESSAGE_BYTES

logger = logging.getLogger(__name__)

_COMMIT_SECONDS = 1.0
_FIRST_BACK_OFF_SECONDS = 0.25
_LONGEST_BACK_OFF_SECONDS = 10.0
# Within the 30 s that container platforms grant.
_STOP_SECONDS = 25.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One record as it lies in Kafka.

    Attributes:
        value: empty for a record without one.
        high_watermark: the partition's end offset as last seen; None when not known yet.
        timestamp: seconds since the epoch, by the producer or the broker.
        headers: of several with one name, the last.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    high_watermark: int | None
    timestamp: float
    headers: Mapping[str, bytes] = field(default_factory=dict)


Handler = Callable[[list[Record]], Awaitable[None]]
"""Works on one batch and returns only once its whole effect is durable; see `run_batches` for its errors."""


def run_batches(
    settings: KafkaSettings,
    *,
    group: str,
    topics: Sequence[str],
    handler: Handler,
    batch_size: int,
    batch_seconds: float,
) -> None:
    """Read the topics as a member of `group` until SIGTERM or SIGINT; call from the main thread.

    Every record reaches `handler` at least once, in order within its partition. A batch may hold records of
    several topics and partitions; offsets are committed only after the handler returned for it.

    The handler's StreamUnavailable and LedgerUnavailable mean "later": the same batch is handed to it again,
    after a growing pause, for as long as it takes. Anything else that it raises ends the run with the batch
    uncommitted. On SIGTERM a batch in work is finished; one that waits for Kafka or the ledger is left uncommitted.
    After 25 s of stopping it returns with whatever still waits, threads of the driver included.

    Args:
        settings: where Kafka is.
        group: the consumer group; its members share the partitions.
        topics: what to read.
        handler: works on one batch.
        batch_size: most records in one batch.
        batch_seconds: how long to wait for a batch to fill.

    Raises:
        StreamUnavailable: the consumer failed in a way that it does not recover from. (While Kafka cannot be
            reached at the start, it waits.)
        Exception: whatever else the handler raised.
    """
    batches = _Batches(topics=tuple(topics), most=batch_size, seconds=batch_seconds)
    # Faust wants a directory of its own, one a process, although it will keep nothing there.
    with tempfile.TemporaryDirectory(prefix="groundwatch-faust-") as data:
        run = _Run(settings, group=group, batches=batches, handler=handler, data=Path(data))
        runner = asyncio.Runner()
        try:
            runner.run(run.until_stopped())
        finally:
            # It would wait for tasks that wait for a broker that is away.
            if not run.stuck:
                runner.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batches:
    topics: tuple[str, ...]
    most: int
    seconds: float


class _Run:
    """One process's membership in a consumer group."""

    def __init__(self, settings: KafkaSettings, *, group: str, batches: _Batches, handler: Handler, data: Path) -> None:
        self._settings = settings
        self._group = group
        self._batches = batches
        self._handler = handler
        self._data = data
        self._stopping = asyncio.Event()
        self._failure: Exception | None = None
        self.stuck = False

    async def until_stopped(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        pause = _FIRST_BACK_OFF_SECONDS
        while not self._stopping.is_set() and not self.stuck:
            try:
                await self._serve()
            except KafkaConnectionError as error:
                logger.warning("Kafka cannot be reached; trying again", extra={"error": str(error), "pause": pause})
                await self._rest(pause)
                pause = min(2 * pause, _LONGEST_BACK_OFF_SECONDS)
        if self._failure is not None:
            raise self._failure

    async def _serve(self) -> None:
        """One life of the Faust app, from its start to its stop."""
        app = self._app()
        starting = asyncio.create_task(app.start())
        ends = {asyncio.create_task(self._stopping.wait()), asyncio.create_task(app._crashed.wait())}  # noqa: SLF001 - mode has no public way to wait for a crash
        try:
            done, _ = await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if starting in done:
                starting.result()
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if app._crashed.is_set() and self._failure is None:  # noqa: SLF001 - likewise
                raise StreamUnavailable(
                    f"the consumer of {', '.join(self._batches.topics)} failed: {app.crash_reason!r}"
                )
        finally:
            for task in (starting, *ends):
                task.cancel()
            await asyncio.gather(starting, *ends, return_exceptions=True)
            await self._stop(app)

    async def _stop(self, app: faust.App) -> None:
        # Not wait_for: it would wait on for whoever swallows the cancellation.
        done, _ = await asyncio.wait({asyncio.create_task(app.stop())}, timeout=_STOP_SECONDS)
        if not done:
            # Nothing is lost by leaving now: what is not committed will be delivered again.
            logger.warning("gave up waiting for an orderly stop", extra={"seconds": _STOP_SECONDS})
            self.stuck = True

    def _app(self) -> faust.App:
        app = faust.App(
            self._group,
            broker=[f"aiokafka://{server}" for server in servers(self._settings)],
            broker_credentials=faust_credentials(self._settings),
            broker_session_timeout=self._settings.session_timeout_seconds,
            broker_heartbeat_interval=self._settings.session_timeout_seconds / 6,
            broker_request_timeout=max(90.0, 3 * self._settings.session_timeout_seconds),
            broker_commit_interval=_COMMIT_SECONDS,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=MAX_MESSAGE_BYTES + RECORD_OVERHEAD_BYTES,
            datadir=self._data,
            key_serializer="raw",
            value_serializer="raw",
            # Both hold memory: a record may have 4 MiB.
            stream_buffer_maxsize=max(self._batches.most, 16),
            # False would cancel the batch in work on SIGTERM and commit it.
            stream_wait_empty=True,
            stream_processing_timeout=600.0,
            # Without tables no standby is needed; with the default of 1 Faust would use its own assignor, which
            # wants all topics of an app to have equally many partitions.
            table_standby_replicas=0,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
        )
        vars(app.transport)["Consumer"] = DurableConsumer  # on the instance: Faust declares it for the class
        source = app.topic(*self._batches.topics, key_type=bytes, value_type=bytes)
        app.agent(source, concurrency=1, name=self._group)(self._consume)
        return app

    async def _consume(self, stream: Any) -> None:
        batches = stream.noack().take_events(self._batches.most, within=self._batches.seconds)
        async for events in batches:
            consumer: DurableConsumer = events[0].app.consumer
            if not await self._work([_record(event, consumer) for event in events]):
                consumer.abandon()
                # Stay until the app is stopped: an agent that returns or raises is restarted, on later records.
                await asyncio.Event().wait()
            # No await from here on, so that no commit sees half a batch.
            for event in events:
                consumer.declare(event.message)
                event.ack()

    async def _work(self, records: list[Record]) -> bool:
        """Whether the batch is durable; if not, the run is ending."""
        pause = _FIRST_BACK_OFF_SECONDS
        while True:
            try:
                await self._handler(records)
            except (StreamUnavailable, LedgerUnavailable) as error:
                logger.warning("the batch waits", extra={"error": str(error), "pause": pause})
                await self._rest(pause)
                pause = min(2 * pause, _LONGEST_BACK_OFF_SECONDS)
            except Exception as error:  # noqa: BLE001 - it is raised again where the run ends
                self._failure = error
                self._stopping.set()
            else:
                return True
            if self._stopping.is_set():
                return False

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def _record(event: Any, consumer: DurableConsumer) -> Record:
    message = event.message
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        key=message.key,
        value=message.value or b"",
        high_watermark=consumer.highwater(message.tp),
        timestamp=message.timestamp,
        headers=dict(message.headers or ()),
    )
