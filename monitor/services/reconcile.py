"""Traces that were accepted and never judged: found by their offsets, and put back where judges will see them.

    judge's position, ledger caught up ─▶ offsets without a receipt ─▶ read again ─▶ rag.traces.v1 ─▶ settled

An offset below the judges' position had its judgement, or its dead letter, on its topic before that position was
committed. So once the ledger has read those topics up to where they ended *after* the position was asked for, an offset
without a receipt is a hole, and not on its way.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from datetime import datetime

from monitor.config import KafkaSettings
from monitor.domain.errors import StreamUnavailable
from monitor.domain.trace import topic_log
from monitor.services.chunks import CHUNK_BYTES
from monitor.services.replay import Pace, key_of
from monitor.services.sending import Sender
from monitor.services.stopping import Stop
from monitor.storage.engine import LedgerEngine
from monitor.storage.gaps import KnownPartition, bury_lost, gaps, known_partitions, settle
from monitor.streaming.lag import end_offsets, group_lag
from monitor.streaming.single_offsets import StoredRecord, first_offsets, read_offsets
from monitor.streaming.topics import judge_group, ledger_group, topic_id

_CHUNK = 100
DELIVERY_SECONDS = 120.0
"""The producer gives up earlier; this only keeps a lost receipt from stopping everything."""

_GLANCE_SECONDS = 1.0


class LedgerBehind(StreamUnavailable):
    """The ledger has not read everything that the judges have written."""


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
        absent: offsets at which no record lay any more: they are lost. Known once all were read.
    """

    hole: Hole
    sent: int = 0
    settled: int = 0
    absent: int = 0

    @property
    def left(self) -> int:
        """How many are still to be put back."""
        return count(self.hole.there) - self.sent - self.absent


class Sending:
    """How records are put back.

    Args:
        producer: writes; closed by whoever made it.
        rate: records a second, at most.
        stop: asked between two chunks.
    """

    def __init__(self, producer: Sender, *, rate: float, stop: Stop) -> None:
        self.producer = producer
        self.stop = stop
        # About a second's worth: what a kill repeats, and how often progress is seen.
        self.limit = max(1, min(_CHUNK, int(rate)))
        self._pace = Pace(rate, stop=stop)

    def paid(self, records: int) -> None:
        """Wait until so many records are paid for, or until told to stop."""
        self._pace.spend(records)


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
    log = topic_log(topic, life)
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


def heal(engine: LedgerEngine, kafka: KafkaSettings, hole: Hole, *, sending: Sending) -> Iterator[Healed]:
    """Put what is still there back on the topic, then let the old offsets end as duplicates of the new ones.

    Yields what was done after each chunk, as the last what it came to. A kill between the two repeats at most a hundred
    records, which the ledger then knows as duplicates.

    Raises:
        StreamUnavailable: what was not acknowledged is still a hole.
        LedgerUnavailable: likewise.
    """
    healed = Healed(hole=hole)
    if not hole.there:
        yield healed
        return
    for chunk in chunks_of(read_offsets(kafka, kafka.traces_topic, hole.partition, hole.there), sending.limit):
        if sending.stop.is_set():
            return
        deliver(sending.producer, [(kafka.traces_topic, one.key or key_of(one.value), one.value) for one in chunk])
        sent = healed.sent + len(chunk)
        settled = healed.settled + settle(engine, hole.log, hole.partition, [one.offset for one in chunk])
        healed = replace(healed, sent=sent, settled=settled)
        yield healed
        sending.paid(len(chunk))
    yield replace(healed, absent=count(hole.there) - healed.sent)


def accept_lost(engine: LedgerEngine, healed: Healed, *, actor: str, at: datetime) -> int:
    """Let what Kafka has no more end as dead letters; how many records.

    Args:
        engine: of the ledger.
        healed: a hole of which all was put back that is still there.
        actor: who accepts that.
        at: when.

    Raises:
        LedgerUnavailable: the rest is still lost.
    """
    hole = healed.hole
    absent = [
        gap
        for part in (hole.there if healed.absent else ())
        for gap in gaps(engine, hole.log, hole.partition, start=part.start, stop=part.stop)
    ]
    return sum(bury_lost(engine, hole.log, hole.partition, lost, actor=actor, at=at) for lost in (*hole.gone, *absent))


def deliver(producer: Sender, messages: Sequence[tuple[str, bytes | None, bytes]]) -> None:
    """Send topic, key and value of each, and return once Kafka has all.

    Raises:
        RecordRefused: Kafka will not take one of them.
        StreamUnavailable: not all were acknowledged.
    """
    receipts = [producer.send(topic, key, value) for topic, key, value in messages]
    _, late = wait(receipts, timeout=DELIVERY_SECONDS)
    if late:
        raise StreamUnavailable(f"{len(late)} of {len(receipts)} records had no receipt in {DELIVERY_SECONDS} s")
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


def chunks_of(records: Iterator[StoredRecord], limit: int) -> Iterator[list[StoredRecord]]:
    """At most `limit` together, and of a size that fits into memory whatever they hold."""
    chunk: list[StoredRecord] = []
    size = 0
    for record in records:
        if chunk and (len(chunk) == limit or size + len(record.value) > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += len(record.value)
    if chunk:
        yield chunk
