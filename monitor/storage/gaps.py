"""Offsets of the traces topic that nothing became of, and their settlement once they were sent again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select, text

from monitor.storage.engine import retry_conflicts, snapshot, transaction
from monitor.storage.tables import intake

_BLOCK = 100_000

_COUNT = """
select count(*) from receipts
where topic = :topic and partition = :partition and "offset" >= :start and "offset" < :stop
"""

_GAPS = """
select before + 1 as start, "offset" as stop
from (
    select "offset", lag("offset", 1, cast(:start as bigint) - 1) over (order by "offset") as before
    from (
        select "offset" from receipts
        where topic = :topic and partition = :partition and "offset" >= :start and "offset" < :stop
        union all
        select cast(:stop as bigint)
    ) as known
) as neighbours
where "offset" > before + 1
order by 1
"""

# Locks in the ledger's order: receipts, then intake. What has a receipt meanwhile keeps it.
_SETTLE = """
with settled as (
    insert into receipts (topic, partition, "offset", outcome)
    select cast(:topic as text), cast(:partition as integer), unnest(cast(:offsets as bigint[])), 'duplicate'
    order by 3
    on conflict do nothing
    returning "offset"
), counted as (
    select count(*) as duplicates, max("offset") + 1 as next_offset from settled
)
insert into intake as kept (topic, partition, high_watermark, next_offset, duplicates)
select :topic, :partition, next_offset, next_offset, duplicates from counted where duplicates > 0
on conflict (topic, partition) do update set
    high_watermark = greatest(kept.high_watermark, excluded.high_watermark),
    next_offset = greatest(kept.next_offset, excluded.next_offset),
    duplicates = kept.duplicates + excluded.duplicates
returning (select duplicates from counted)
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
        with snapshot(engine) as connection:
            if connection.execute(text(_COUNT), block).scalar_one() == block["stop"] - begin:
                continue
            rows = connection.execute(text(_GAPS), block).all()
        yield from (range(row.start, row.stop) for row in rows)


def settle(engine: Engine, log: str, partition: int, offsets: Sequence[int]) -> int:
    """Let records that were sent again end as duplicates of their new selves.

    Returns:
        How many had no receipt until now.

    Raises:
        LedgerUnavailable: nothing was settled.
    """

    def write() -> int:
        with transaction(engine) as connection:
            parameters = {"topic": log, "partition": partition, "offsets": list(offsets)}
            return connection.execute(text(_SETTLE), parameters).scalar() or 0

    return retry_conflicts(write)
