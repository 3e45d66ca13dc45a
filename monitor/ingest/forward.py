"""From the spool to Kafka, in order, for as long as it takes."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from monitor.domain.errors import InvalidSettings, RecordRefused, SpoolUnavailable, StreamUnavailable
from monitor.ingest.ageing import AgeLimit
from monitor.ingest.counters import IngestCounters
from monitor.ingest.spool_records import Spooled
from monitor.ingest.spool_source import SpoolSource

_log = logging.getLogger(__name__)

_WINDOW_RECORDS = 1000
_WINDOW_BYTES = 16 * 1024 * 1024
_IDLE_SECONDS = 0.5
# Reading, sending and acknowledging records one by one costs several times what it costs together.
_GATHER_RECORDS = 100
_GATHER_SECONDS = 0.02
# The producer gives up earlier; this only keeps a lost receipt from stopping the queue.
_DELIVERY_SECONDS = 120.0
_SETTLE_SECONDS = 5.0
DAMAGED = "its checksum does not hold"


class RecordProducer(Protocol):
    """The port to Kafka: `monitor.streaming.producer.Producer`, or `MemoryProducer`."""

    def send(self, topic: str, key: bytes, value: bytes) -> "Future[Any]":
        """Hand one record over; the future resolves once every in-sync replica has it.

        Both the call and the future may fail with StreamUnavailable (worth trying again) or RecordRefused (not).
        """


class KafkaState(StrEnum):
    """Kafka, as the forwarder last saw it."""

    UNTRIED = "untried"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardState:
    """What the forwarder is about; `problem` is why Kafka is down."""

    kafka: KafkaState
    in_flight: int
    problem: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """How long to wait after the n-th failure in a row: doubling up to a limit, and half of it left to chance."""

    first_seconds: float = 0.2
    limit_seconds: float = 10.0
    chance: Callable[[], float] = random.random

    def seconds(self, failures: int) -> float:
        """The wait after so many failures (at least 1)."""
        # The exponent is bounded, or an outage of an hour would overflow the float.
        full = min(self.limit_seconds, self.first_seconds * 2.0 ** min(failures - 1, 30))
        return full * (1 + self.chance()) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sent:
    record: Spooled
    receipt: "Future[Any] | None"


@dataclass(frozen=True, kw_only=True, slots=True)
class _TooOld:
    """In the place of so many records up to a position, which are not sent."""

    limit: AgeLimit
    count: int
    position: int
    receipt: None = None


class Forwarder:
    """A thread that sends what waits in the spool, many records in flight, and acknowledges in order.

    Delivery is at least once: after any failure it starts again behind the last record that Kafka confirmed.
    A record that Kafka refuses for its own sake is set aside in the spool and blocks nothing.

    Args:
        age_limit: of the spool; none when absent. It holds while Kafka is away, too.
        prepare: called until it succeeds before the first record, and again after each failure (to create the
            topic: a broker may come back without it); may raise StreamUnavailable.
    """

    def __init__(
        self,
        spool: SpoolSource,
        producer: RecordProducer,
        *,
        topic: str,
        counters: IngestCounters,
        age_limit: AgeLimit | None = None,
        prepare: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
    ) -> None:
        self._spool = spool
        self._producer = producer
        self._topic = topic
        self._counters = counters
        self._age_limit = age_limit
        self._prepare = prepare
        self._backoff = backoff or Backoff()
        self._prepared = False
        self._cursor = spool.acknowledged
        self._sent: deque[_Sent | _TooOld] = deque()
        self._sent_bytes = 0
        self._kafka = KafkaState.UNTRIED
        self._problem: str | None = None
        self._failures = 0
        self._stopping = threading.Event()
        self._drain_until = 0.0
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, *, drain_seconds: float) -> bool:
        """Send what is left for so long, then stop; true when nothing is left. The rest stays in the spool.

        When Kafka is down it does not wait for it.
        """
        self._drain_until = time.monotonic() + drain_seconds
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=drain_seconds + 1.0)
        return not self._thread.is_alive() and not self._spool.wait(self._spool.acknowledged, seconds=0)

    def state(self) -> ForwardState:
        """What it is about."""
        return ForwardState(kafka=self._kafka, in_flight=len(self._sent), problem=self._problem)

    def _run(self) -> None:
        while not self._finished():
            try:
                self._round()
            except (StreamUnavailable, SpoolUnavailable, InvalidSettings, TimeoutError) as error:
                if self._stopping.is_set():
                    return
                self._start_over(error)
            except Exception as error:  # noqa: BLE001 - a defect must not end the only thread that empties the spool
                _log.exception("the forwarder failed; it goes on")
                self._start_over(error)

    def _finished(self) -> bool:
        if not self._stopping.is_set():
            return False
        empty = not self._sent and not self._spool.wait(self._cursor, seconds=0)
        return empty or time.monotonic() >= self._drain_until

    def _round(self) -> None:
        self._pass_over_old()
        if not self._sent and not self._spool.wait(self._cursor, seconds=_IDLE_SECONDS):
            return
        if not self._prepared:
            self._prepare()
            self._prepared = True
        if self._spool.durable - self._cursor < _GATHER_RECORDS:
            self._stopping.wait(_GATHER_SECONDS)
        self._pass_over_old()
        self._fill()
        self._settle()

    def _pass_over_old(self) -> None:
        """Leave what has waited for too long; where nothing is in flight, it is given up at once."""
        if self._age_limit is None:
            return
        count, last = self._age_limit.passed(self._cursor)
        if count:
            self._sent.append(_TooOld(limit=self._age_limit, count=count, position=last))
            self._cursor = last
        while self._sent and isinstance(first := self._sent[0], _TooOld):
            self._give_up(first)

    def _give_up(self, old: _TooOld) -> None:
        old.limit.drop(old.count)
        self._sent.popleft()
        self._spool.acknowledge(old.position)

    def _fill(self) -> None:
        room = _WINDOW_RECORDS - len(self._sent)
        if room <= 0 or self._sent_bytes >= _WINDOW_BYTES:
            return
        for record in self._spool.read(self._cursor, limit=room, max_bytes=_WINDOW_BYTES - self._sent_bytes):
            receipt = self._send(record) if record.intact else None
            self._sent.append(_Sent(record=record, receipt=receipt))
            self._sent_bytes += record.entry.size
            self._cursor = record.position

    def _send(self, record: Spooled) -> "Future[Any]":
        try:
            return self._producer.send(self._topic, record.entry.key, record.entry.value)
        except RecordRefused as error:
            refused: Future[Any] = Future()
            refused.set_exception(error)
            return refused

    def _settle(self) -> None:
        """Wait for the oldest record in flight, take along all that are done behind it, acknowledge."""
        forwarded = 0
        while self._sent:
            sent = self._sent[0]
            if isinstance(sent, _TooOld):
                self._give_up(sent)
                continue
            if forwarded and sent.receipt is not None and not sent.receipt.done():
                break
            forwarded += self._deliver(sent)
            self._sent.popleft()
            self._sent_bytes -= sent.record.entry.size
            self._spool.acknowledge(sent.record.position)
        if forwarded:
            self._counters.forwarded(forwarded)
            self._up()

    def _deliver(self, sent: _Sent) -> int:
        if sent.receipt is None:
            self._put_aside(sent.record, DAMAGED)
            return 0
        try:
            sent.receipt.result(timeout=_DELIVERY_SECONDS)
        except RecordRefused:
            return self._deliver_alone(sent.record)
        return 1

    def _deliver_alone(self, record: Spooled) -> int:
        """A broker refuses a batch as a whole: only what it refuses on its own is to blame."""
        wait_for_futures([s.receipt for s in self._sent if s.receipt is not None], timeout=_SETTLE_SECONDS)
        try:
            self._send(record).result(timeout=_DELIVERY_SECONDS)
        except RecordRefused as error:
            self._put_aside(record, str(error))
            return 0
        return 1

    def _put_aside(self, record: Spooled, reason: str) -> None:
        _log.error("a record cannot be sent and is set aside: %s", reason, extra={"position": record.position})
        self._spool.set_aside(record.position, reason)
        self._counters.set_aside(1)

    def _up(self) -> None:
        if self._kafka is KafkaState.DOWN:
            _log.warning("Kafka is back after %d failures", self._failures)
        self._kafka, self._problem, self._failures = KafkaState.UP, None, 0

    def _start_over(self, error: Exception) -> None:
        self._failures += 1
        self._problem = str(error) or type(error).__name__
        if self._kafka is not KafkaState.DOWN:
            _log.warning("Kafka is down, traces wait on disk: %s", self._problem)
        self._kafka = KafkaState.DOWN
        self._prepared = False
        self._counters.retried()
        # What is still in flight may yet arrive: let it, so that it is not overtaken by its own repetition.
        wait_for_futures([s.receipt for s in self._sent if s.receipt is not None], timeout=_SETTLE_SECONDS)
        self._sent.clear()
        self._sent_bytes = 0
        self._cursor = self._spool.acknowledged
        self._stopping.wait(self._backoff.seconds(self._failures))
