"""Offsets of the traces topic that nothing became of, and their settlement once they were sent again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any

from sqlalchemy import Engine, select, text

from monitor.storage.engine import driver_cursor, retry_conflicts, snapshot, transaction
from monitor.storage.ledger import settle_offsets
from monitor.storage.receipts import Range
from monitor.storage.statements import INSERT_DEAD_LETTER
from monitor.storage.storable import storable
from monitor.storage.tables import intake

LOST = "lost"
"""Why such a dead letter is one: no worker finds that in a record."""

_BLOCK = 100_000
_BURIED_AT_ONCE = 10_000

_RANGES = """
select first_offset, outcomes from receipt_ranges join topics using (topic_id)
where topic = :topic and partition = :partition and first_offset > :start - 2048 and first_offset < :stop
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownPartition:
    """A partition of the traces topic, as the ledger knows it.

    Attributes:
        log: its topic, in one life of it.
        first: the offset at which counting begins.
        end: of the partition, as last heard.
    """

    log: str
    partition: int
    first: int
    end: int


def known_partitions(engine: Engine, topic: str) -> Sequence[KnownPartition]:
    """Those of all lives of a topic, in order.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    query = (
        select(intake.c.topic, intake.c.partition, intake.c.first_offset, intake.c.high_watermark)
        .where(~intake.c.replays)
        .order_by(intake.c.topic, intake.c.partition)
    )
    with snapshot(engine) as connection:
        return [
            KnownPartition(log=log, partition=partition, first=first, end=end)
            for log, partition, first, end in connection.execute(query)
            if log == topic or log.startswith(f"{topic}@")
        ]


def gaps(engine: Engine, log: str, partition: int, *, start: int, stop: int) -> list[range]:
    """Offsets in [start, stop) without a receipt, as ranges in order. Reads the receipts block by block.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    found: list[range] = []
    for gap in _blocks(engine, {"topic": log, "partition": partition}, start, stop):
        if found and found[-1].stop == gap.start:
            found[-1] = range(found[-1].start, gap.stop)
        else:
            found.append(gap)
    return found


def _blocks(engine: Engine, place: dict[str, Any], start: int, stop: int) -> Iterator[range]:
    for begin in range(start, stop, _BLOCK):
        block = {**place, "start": begin, "stop": min(begin + _BLOCK, stop)}
        missing = set(range(begin, block["stop"]))
        with snapshot(engine) as connection:
            for row in connection.execute(text(_RANGES), block):
                missing.difference_update(Range(first=row.first_offset, outcomes=row.outcomes).offsets)
        yield from _runs(sorted(missing))


def _runs(offsets: Sequence[int]) -> Iterator[range]:
    for _, run in groupby(enumerate(offsets), key=lambda each: each[1] - each[0]):
        found = [offset for _, offset in run]
        yield range(found[0], found[-1] + 1)


def settle(engine: Engine, log: str, partition: int, offsets: Sequence[int]) -> int:
    """Let records that were sent again end as duplicates of their new selves.

    Returns:
        How many had no receipt until now.

    Raises:
        LedgerUnavailable: nothing was settled.
    """

    def write() -> int:
        with transaction(engine) as connection:
            return settle_offsets(driver_cursor(connection), log, partition, offsets, outcome="duplicate")

    return retry_conflicts(write)


def bury_lost(engine: Engine, log: str, partition: int, offsets: range, *, actor: str, at: datetime) -> int:
    """Let records that Kafka has no more end as dead letters, ten thousand in a transaction and in a row.

    Returns:
        How many had no receipt until now.

    Raises:
        LedgerUnavailable: those of the last transaction are still lost.
    """

    def write(some: range) -> int:
        with transaction(engine) as connection:
            cursor = driver_cursor(connection)
            buried = settle_offsets(cursor, log, partition, some, outcome="dead_letter")
            if buried:
                about = f"{buried:,} records of offsets {some.start} to {some[-1]}, which Kafka has no more"
                detail = f"{about}; accepted as lost by {actor}"
                # Of at least a byte none is kept: what replays dead letters passes it over.
                row = (log, partition, some.start, LOST, storable(detail), None, b"", 1, at)
                cursor.execute(INSERT_DEAD_LETTER, row)
            return buried

    parts = (offsets[start : start + _BURIED_AT_ONCE] for start in range(0, len(offsets), _BURIED_AT_ONCE))
    return sum(retry_conflicts(partial(write, part)) for part in parts)
