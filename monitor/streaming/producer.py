"""Writing to Kafka: idempotent, acknowledged by every in-sync replica, bounded in memory."""

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka.errors import InvalidRecordError, KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from monitor.config import KafkaSettings
from monitor.domain.errors import InvalidSettings, RecordRefused, StreamUnavailable
from monitor.streaming.connection import connect, refusal
from monitor.streaming.topics import RECORD_OVERHEAD_BYTES
from monitor.wire import MAX_MESSAGE_BYTES

logger = logging.getLogger(__name__)

_LINGER_MS = 5
_BATCH_BYTES = 256 * 1024
_REFUSALS = (InvalidRecordError, MessageSizeTooLargeError, RecordListTooLargeError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """Where a record lies, once Kafka has it."""

    topic: str
    partition: int
    offset: int


class Producer:
    """A thread-safe producer that connects on its first `send`.

    Sending again what may already have been written is the caller's business (and safe: readers are
    idempotent by trace id); within one connection kafka-python writes each record once, in order.

    Args:
        settings: where Kafka is.
        delivery_seconds: after this long without an acknowledgement a record has failed.
        connect_seconds: how long to wait for a first answer of the brokers, and for news of a topic.
        buffer_bytes: what may wait for acknowledgements; `send` blocks above it. kafka-python itself has no limit.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        delivery_seconds: float = 30.0,
        connect_seconds: float = 10.0,
        buffer_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._settings = settings
        self._delivery_seconds = delivery_seconds
        self._connect_seconds = connect_seconds
        self._buffer = _Buffer(buffer_bytes)
        self._client: Any = None
        self._lock = threading.Lock()

    def send(
        self, topic: str, key: bytes | None, value: bytes, *, headers: Mapping[str, bytes] | None = None
    ) -> Future[Delivered]:
        """Hand one record over; the future tells when it is durable.

        The future fails with StreamUnavailable when Kafka does not answer in time, and with its subclass
        RecordRefused when sending the record again would not help.

        Raises:
            StreamUnavailable: Kafka cannot be reached, or the buffer did not drain within `delivery_seconds`.
            RecordRefused: the record is larger than any topic of ours takes.
            InvalidSettings: a file for TLS cannot be used.
        """
        size = len(value) + len(key or b"")
        self._buffer.take(size, deadline_seconds=self._delivery_seconds)
        future: Future[Delivered] = Future()
        # Set running, so that a caller's cancel() cannot race with the delivery thread.
        future.set_running_or_notify_cancel()
        future.add_done_callback(lambda _: self._buffer.give(size))
        client = None
        try:
            client = self._connected()
            receipt = client.send(topic, value=value, key=key, headers=list((headers or {}).items()))
        except (KafkaError, OSError) as error:
            if not isinstance(error, _REFUSALS):
                self._discard(client)
            failure = _failure(topic, error, client)
            future.set_exception(failure)
            raise failure from error
        except InvalidSettings as error:
            future.set_exception(error)
            raise
        receipt.add_callback(_deliver, future)
        receipt.add_errback(self._fail, client, future, topic)
        return future

    def flush(self, timeout: float) -> None:
        """Wait until nothing is in flight; raises StreamUnavailable at the deadline."""
        with self._lock:
            client = self._client
        if client is None:
            return
        try:
            client.flush(timeout)
        except KafkaError as error:
            raise StreamUnavailable(f"not flushed after {timeout} s: {error}") from error

    def close(self, timeout: float = 10.0) -> None:
        """Flush for at most `timeout` seconds and disconnect. What is still in flight then fails."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            _close(client, timeout)

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = connect(
                    KafkaProducer,
                    self._settings,
                    deadline_seconds=self._connect_seconds,
                    acks="all",
                    enable_idempotence=True,
                    delivery_timeout_ms=int(self._delivery_seconds * 1000),
                    request_timeout_ms=int(self._delivery_seconds * 500),
                    max_block_ms=int(self._connect_seconds * 1000),
                    reconnect_backoff_max_ms=1000,
                    max_request_size=MAX_MESSAGE_BYTES + RECORD_OVERHEAD_BYTES,
                    batch_size=_BATCH_BYTES,
                    linger_ms=_LINGER_MS,
                    allow_auto_create_topics=False,
                    metrics_enabled=False,
                )
            return self._client

    def _fail(self, client: Any, future: Future[Delivered], topic: str, error: Exception) -> None:
        logger.warning("record not delivered", extra={"topic": topic, "error": repr(error)})
        # After a failed batch an idempotent producer's sequence is in doubt: the next send begins a new one.
        self._discard(client)
        future.set_exception(_failure(topic, error, client))

    def _discard(self, client: Any) -> None:
        with self._lock:
            if client is None or client is not self._client:
                return
            self._client = None
        # Not here: this may run on the very thread that close() waits for.
        threading.Thread(target=_close, args=(client, 1.0), daemon=True).start()


def _deliver(future: Future[Delivered], metadata: Any) -> None:
    future.set_result(Delivered(topic=metadata.topic, partition=metadata.partition, offset=metadata.offset))


def _failure(topic: str, error: Exception, client: Any) -> StreamUnavailable:
    if isinstance(error, _REFUSALS):
        return RecordRefused(f"{topic}: {error}")
    # A record that only expired does not tell why.
    return StreamUnavailable(f"{topic}: {refusal(client) or error}")


def _close(client: Any, timeout: float) -> None:
    try:
        client.close(timeout=timeout)
    except KafkaError as error:
        logger.warning("closed with records in flight", extra={"error": repr(error)})


class _Buffer:
    """Bytes that may be in flight. One record larger than the whole limit passes alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    def take(self, size: int, *, deadline_seconds: float) -> None:
        deadline = time.monotonic() + deadline_seconds
        with self._changed:
            while self._taken and self._taken + size > self._limit:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise StreamUnavailable(f"{self._taken} bytes still in flight after {deadline_seconds} s")
            self._taken += size

    def give(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify_all()
