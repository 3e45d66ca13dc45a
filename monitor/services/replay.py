"""Sending a replay: stored texts back onto a topic, no faster than asked, and never past what Kafka has.

    ledger ─▶ chunk ─▶ rag.replays.v1 ─(acknowledged)─▶ cursor ─▶ next chunk

A kill at any point repeats at most a chunk, and what is sent twice is judged into the same row.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from monitor.config import KafkaSettings
from monitor.domain.errors import InvalidTrace, StreamUnavailable
from monitor.services.replay_headers import headers
from monitor.services.stopping import Stop
from monitor.storage.engine import LedgerEngine
from monitor.storage.replays import Replay, ReplayBook, ReplayState
from monitor.storage.replays_source import Chunk, next_chunk
from monitor.wire import decode_trace, encode_trace

logger = logging.getLogger(__name__)

_DELIVERY_SECONDS = 120.0
_MOST_A_CHUNK = 200


class HeadedSender(Protocol):
    """Writes to topics, with headers: `monitor.streaming.producer.Producer`."""

    def send(
        self, topic: str, key: bytes | None, value: bytes, *, headers: Mapping[str, bytes] | None = None
    ) -> "Future[Any]":
        """Hand one record over; the future tells when it is durable. Both may fail with StreamUnavailable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outgoing:
    topic: str
    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes] | None = None


class Pace:
    """Keeps to a rate, on average since it was made; what was missed while Kafka was slow is not made up for.

    Args:
        rate: records a second.
        stop: ends a pause at once.
        stopwatch: a steady clock in seconds.
    """

    def __init__(self, rate: float, *, stop: Stop, stopwatch: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._stop = stop
        self._stopwatch = stopwatch
        self._due = stopwatch()

    def spend(self, records: int) -> None:
        """Wait until so many records are paid for."""
        now = self._stopwatch()
        self._due = max(self._due, now) + records / self._rate
        if self._due > now:
            self._stop.wait(self._due - now)


class ReplaySender:
    """Sends replays to their end, or until told to stop.

    Args:
        engine: of the ledger.
        producer: writes; closed by whoever made it.
        topics: where traces to be judged anew go, and dead letters.
        rate: records a second.
        stop: asked between two chunks.
    """

    def __init__(
        self, engine: LedgerEngine, *, producer: HeadedSender, topics: KafkaSettings, rate: float, stop: Stop
    ) -> None:
        self._engine = engine
        self._book = ReplayBook(engine)
        self._producer = producer
        self._topics = topics
        self._stop = stop
        self._pace = Pace(rate, stop=stop)
        # About a second's worth: what a kill repeats, and how often progress is seen.
        self._limit = max(1, min(_MOST_A_CHUNK, int(rate)))

    def send(self, replay: Replay) -> Iterator[Replay]:
        """Send from the replay's cursor on; yields how it stands after each chunk, as the last what it came to.

        Raises:
            StreamUnavailable: what was not acknowledged is sent again by the next who resumes.
            RecordRefused: Kafka will not take a record; `max.message.bytes` of the topic is too small.
            LedgerUnavailable: likewise nothing is lost.
        """
        while replay.state is ReplayState.SENDING and not self._stop.is_set():
            chunk = next_chunk(self._engine, replay, limit=self._limit, traces_topic=self._topics.traces_topic)
            messages = list(self._messages(replay, chunk))
            found = self._book.find(replay.replay_id)
            if found.state is not ReplayState.SENDING:
                yield found
                return
            self._deliver(messages)
            advanced = self._book.advance(
                replay, cursor=chunk.cursor, sent=len(messages), refused=chunk.refused, done=chunk.done
            )
            if advanced is None:
                found = self._book.find(replay.replay_id)
                if found.state is ReplayState.SENDING:
                    logger.warning("another process sends this replay", extra={"replay": replay.replay_id})
                yield found
                return
            replay = advanced
            yield replay
            self._pace.spend(len(messages))

    def _messages(self, replay: Replay, chunk: Chunk) -> Iterator[_Outgoing]:
        for trace in chunk.traces:
            yield _Outgoing(
                topic=self._topics.replays_topic,
                key=f"{trace.tenant}|{trace.trace_id}".encode(),
                value=encode_trace(trace),
                headers=headers(replay.replay_id, replay.judge_version or ""),
            )
        for raw in chunk.raw:
            yield _Outgoing(topic=self._topics.traces_topic, key=key_of(raw), value=raw)

    def _deliver(self, messages: list[_Outgoing]) -> None:
        receipts = [
            self._producer.send(message.topic, message.key, message.value, headers=message.headers)
            for message in messages
        ]
        _, late = wait(receipts, timeout=_DELIVERY_SECONDS)
        if late:
            raise StreamUnavailable(f"{len(late)} of {len(receipts)} records had no receipt in {_DELIVERY_SECONDS} s")
        for receipt in receipts:
            receipt.result()


def key_of(raw: bytes) -> bytes | None:
    """The key that a sidecar would give a record of the traces topic; None for one that is no trace."""
    try:
        trace = decode_trace(raw, now=datetime.now(UTC))
    except InvalidTrace:
        return None
    return f"{trace.tenant}|{trace.trace_id}".encode()
