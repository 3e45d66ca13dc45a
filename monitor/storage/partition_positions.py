"""How far the partitions of the traces topic reach, and how far the ledger has come in each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from monitor.storage.engine import driver_cursor, retry_conflicts, transaction

# In one order, whoever writes: no two wait for one another in a ring. Nobody else writes this table.
_NOTE = """
insert into soundings as kept (topic, partition, beginning, ending, sounded_at)
select %s, partition, beginning, ending, now()
from unnest(%s::integer[], %s::bigint[], %s::bigint[]) as told (partition, beginning, ending)
order by partition
on conflict (topic, partition) do update set
    beginning = greatest(kept.beginning, excluded.beginning),
    ending = case when excluded.ending is not null then greatest(kept.ending, excluded.ending) end,
    sounded_at = excluded.sounded_at
"""
_FORGET = """
with known as (
    select topic, partition from soundings
    where ending is not null and split_part(topic, '@', 1) = %s
    order by topic, partition
    for update
)
update soundings as kept set ending = null
from known where kept.topic = known.topic and kept.partition = known.partition
"""

_POSITIONS = text("""
select
    topic as log, partition, newest_event_time, sounded_at,
    coalesce(arrived_at > now() - interval '1 hour', false) as lively,
    greatest(coalesce(known.next_offset, 0), told.beginning) as next_offset,
    case when sounded_at is null or told.ending is not null
        then greatest(known.high_watermark, told.ending) end as ending
from (select * from intake where not replays) as known
full join soundings as told using (topic, partition)
order by topic, partition
""")
_LATELY = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far the ledger has come in one partition of the traces topic.

    Attributes:
        log: its topic, in one life of it: see `Origin.log`.
        next_offset: one past the last record that became of something, or the first that Kafka still has.
        ending: offset of the next record to be written, as last heard; None while Kafka does not say.
        newest_event_time: of all traces that came from it, those dated ahead of time left out; None before the first.
        sounded_at: when Kafka was asked; None where only records have told.
        lively: whether anything came from it within the last hour.
    """

    log: str
    partition: int
    next_offset: int
    ending: int | None
    newest_event_time: datetime | None = None
    sounded_at: datetime | None = None
    lively: bool = True

    @property
    def behind(self) -> bool:
        """Whether there are records that have not come yet, or may be."""
        return self.ending is None or self.ending > self.next_offset


def note_soundings(engine: Engine, log: str, offsets: Mapping[int, range | None]) -> None:
    """Keep which offsets Kafka has, by partition; None where it does not say.

    Raises:
        LedgerUnavailable: nothing was kept.
    """
    told = sorted(offsets.items())
    columns = [
        [partition for partition, _ in told],
        [there.start if there is not None else 0 for _, there in told],
        [there.stop if there is not None else None for _, there in told],
    ]
    _write(engine, _NOTE, (log, *columns))


def forget_soundings(engine: Engine, topic: str) -> None:
    """Kafka does not say what lies in this topic: each partition may have more than is known.

    Raises:
        LedgerUnavailable: nothing was kept.
    """
    _write(engine, _FORGET, (topic,))


def positions(connection: Connection) -> Sequence[Position]:
    """Of all partitions of the traces topic that may send something, as the caller's transaction sees them.

    These are all from which anything came lately, and those that Kafka told of: of a topic that was made anew in its
    latest life, and not of topics that nobody asks about any more.
    """
    found = [Position(**row) for row in connection.execute(_POSITIONS).mappings()]
    sounded = sorted((each.sounded_at, each.log) for each in found if each.sounded_at)
    latest = {_name(log): log for at, log in sounded if at > sounded[-1][0] - _LATELY}
    return [each for each in found if each.lively or (each.sounded_at and latest.get(_name(each.log)) == each.log)]


def _write(engine: Engine, statement: str, parameters: Sequence[Any]) -> None:
    def write() -> None:
        with transaction(engine) as connection, driver_cursor(connection) as cursor:
            cursor.execute(statement, parameters)

    retry_conflicts(write)


def _name(log: str) -> str:
    return log.partition("@")[0]
