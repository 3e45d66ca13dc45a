"""Traces that were accepted and never judged: found by their offsets, and put back where judges will see them.

    judge's position, ledger caught up ─▶ offsets without a receipt ─▶ read again ─▶ rag.traces.v1 ─▶ settled

An offset below the judges' position had its judgement, or its dead letter, on its topic before that position was
committed. So once the ledger has read those topics up to where they ended *after* the position was asked for, an offset
without a receipt is a hole, and not on its way.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from monitor.config import KafkaSettings
from monitor.domain.errors import StreamUnavailable
from monitor.services.replay import key_of
from monitor.storage.engine import LedgerEngine
from monitor.storage.gaps import KnownPartition, gaps, known_partitions, settle
from monitor.streaming.lag import end_offsets, group_lag
from monitor.streaming.single_offsets import StoredRecord, first_offsets, read_offsets
from monitor.streaming.topics import judge_group, ledger_group, topic_id

_CHUNK = 100
_DELIVERY_SECONDS = 120.0
_GLANCE_SECONDS = 1.0


class LedgerBehind(StreamUnavailable):
    """The ledger has not read everything that the judges have written."""


class Sender(Protocol):
    """Writes to topics: `monitor.streaming.producer.Producer`."""

    def send(self, topic: str, key: bytes | None, value: bytes) -> "Future[Any]":
        """Hand one record over; the future tells when it is durable. Both may fail with StreamUnavailable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hole:
    """Offsets of one partition that nothing became of.

    Attributes:
        log: the topic, in one life of it.
        there: ranges that Kafka may still have.
        gone: ranges that have expired, or lay in a topic that was deleted and made anew: they are lost.
    """

    log: str
    partition: int
    there: tuple[range, ...]
    gone: tuple[range, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Healed:
    """What became of a hole.

    Attributes:
        sent: records that lie in the topic once more, under new offsets.
        settled: of these, old offsets that are accounted for as duplicates of the new ones.
        absent: offsets at which no record lay any more: they are lost.
    """

    hole: Hole
    sent: int
    settled: int
    absent: int


def find_holes(engine: LedgerEngine, kafka: KafkaSettings, *, patience_seconds: float) -> list[Hole]:
    """The holes of the traces topic; partitions without one are left out.

    Args:
        engine: of the ledger.
        kafka: where Kafka is.
        patience_seconds: how long to wait for the ledger to read what the judges have written by now.

    Raises:
        LedgerBehind: it did not.
        StreamUnavailable: Kafka cannot be reached.
        LedgerUnavailable: Postgres is away or not migrated.
    """
    topic = kafka.traces_topic
    life = topic_id(kafka, topic)
    log = topic if life is None else f"{topic}@{life}"
    judged = {lag.partition: lag.committed or 0 for lag in group_lag(kafka, judge_group(kafka), [topic])}
    _await_ledger(kafka, patience_seconds)
    known = known_partitions(engine, topic)
    first = first_offsets(kafka, topic, list(judged))
    begins = {one.partition: one.first for one in known if one.log == log}
    holes = [
        hole_in(engine, log, partition, start=begins.get(partition, 0), stop=stop, kept_from=first.get(partition, 0))
        for partition, stop in sorted(judged.items())
    ]
    holes += [_hole_of_before(engine, one) for one in known if one.log != log]
    return [hole for hole in holes if hole.there or hole.gone]


def heal(engine: LedgerEngine, kafka: KafkaSettings, hole: Hole, *, producer: Sender) -> Healed:
    """Put what is still there back on the topic, then let the old offsets end as duplicates of the new ones.

    A kill between the two repeats at most a hundred records, which the ledger then knows as duplicates.

    Raises:
        StreamUnavailable: what was not acknowledged is still a hole.
        LedgerUnavailable: likewise.
    """
    sent = settled = 0
    records = read_offsets(kafka, kafka.traces_topic, hole.partition, hole.there) if hole.there else iter(())
    for chunk in _chunks(records):
        deliver(producer, [(kafka.traces_topic, one.key or key_of(one.value), one.value) for one in chunk])
        settled += settle(engine, hole.log, hole.partition, [one.offset for one in chunk])
        sent += len(chunk)
    return Healed(hole=hole, sent=sent, settled=settled, absent=count(hole.there) - sent)


def deliver(producer: Sender, messages: Sequence[tuple[str, bytes | None, bytes]]) -> None:
    """Send topic, key and value of each, and return once Kafka has all.

    Raises:
        RecordRefused: Kafka will not take one of them.
        StreamUnavailable: not all were acknowledged.
    """
    receipts = [producer.send(topic, key, value) for topic, key, value in messages]
    _, late = wait(receipts, timeout=_DELIVERY_SECONDS)
    if late:
        raise StreamUnavailable(f"{len(late)} of {len(receipts)} records had no receipt in {_DELIVERY_SECONDS} s")
    for receipt in receipts:
        receipt.result()


def count(ranges: Sequence[range]) -> int:
    """How many offsets they have together."""
    return sum(map(len, ranges))


def _await_ledger(
    kafka: KafkaSettings, patience_seconds: float, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    topics = [kafka.judgements_topic, kafka.dead_letters_topic]
    ends = end_offsets(kafka, topics)
    deadline = time.monotonic() + patience_seconds
    while True:
        lags = group_lag(kafka, ledger_group(kafka), topics)
        behind = sum(max(0, ends[lag.topic, lag.partition] - (lag.committed or 0)) for lag in lags)
        if not behind:
            return
        if time.monotonic() > deadline:
            raise LedgerBehind(
                f"the ledger has {behind} records still to read, and what is on its way is no hole: "
                "is a ledger worker running? Try again, or give it longer (--patience)"
            )
        sleep(_GLANCE_SECONDS)


def hole_in(engine: LedgerEngine, log: str, partition: int, *, start: int, stop: int, kept_from: int) -> Hole:
    """Offsets in [start, stop) without a receipt; those before `kept_from` have expired."""
    there: list[range] = []
    gone: list[range] = []
    for gap in gaps(engine, log, partition, start=start, stop=stop):
        cut = min(max(gap.start, kept_from), gap.stop)
        gone += [range(gap.start, cut)] if gap.start < cut else []
        there += [range(cut, gap.stop)] if cut < gap.stop else []
    return Hole(log=log, partition=partition, there=tuple(there), gone=tuple(gone))


def _hole_of_before(engine: LedgerEngine, known: KnownPartition) -> Hole:
    missing = gaps(engine, known.log, known.partition, start=known.first, stop=known.end)
    return Hole(log=known.log, partition=known.partition, there=(), gone=tuple(missing))


def _chunks(records: Iterator[StoredRecord]) -> Iterator[list[StoredRecord]]:
    chunk: list[StoredRecord] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
