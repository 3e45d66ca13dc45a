"""How far the partitions of the traces topic reach, and how far the ledger has come in each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

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
    ending = greatest(kept.ending, excluded.ending),
    sounded_at = excluded.sounded_at
"""

_POSITIONS = text("""
select
    topic as log, partition, newest_event_time, sounded_at,
    greatest(coalesce(known.next_offset, 0), told.beginning) as next_offset,
    greatest(known.high_watermark, told.ending) as ending
from (select * from intake where not replays) as known
full join soundings as told using (topic, partition)
order by topic, partition
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far the ledger has come in one partition of the traces topic.

    Attributes:
        log: its topic, in one life of it: see `Origin.log`.
        next_offset: one past the last record that became of something, or the first that Kafka still has.
        ending: offset of the next record to be written, as last heard.
        newest_event_time: of all traces that came from it, those dated ahead of time left out; None before the first.
        sounded_at: when Kafka said so; None where only records have told.
    """

    log: str
    partition: int
    next_offset: int
    ending: int
    newest_event_time: datetime | None = None
    sounded_at: datetime | None = None

    @property
    def behind(self) -> bool:
        """Whether there are records that have not come yet."""
        return self.ending > self.next_offset


def note_soundings(engine: Engine, log: str, offsets: Mapping[int, range]) -> None:
    """Keep which offsets Kafka has, by partition.

    Raises:
        LedgerUnavailable: nothing was kept.
    """
    told = sorted(offsets.items())
    columns = [
        [partition for partition, _ in told],
        [there.start for _, there in told],
        [there.stop for _, there in told],
    ]

    def write() -> None:
        with transaction(engine) as connection, driver_cursor(connection) as cursor:
            cursor.execute(_NOTE, (log, *columns))

    retry_conflicts(write)


def positions(connection: Connection) -> Sequence[Position]:
    """Of all partitions of the traces topic, as the caller's transaction sees them.

    Of a topic that was made anew only the life that Kafka told of last is there: an earlier one will send nothing.
    """
    found = [Position(**row) for row in connection.execute(_POSITIONS).mappings()]
    latest = _latest_lives(found)
    return [each for each in found if latest.get(_name(each.log), each.log) == each.log]


def _latest_lives(found: Iterable[Position]) -> dict[str, str]:
    sounded = [(each.sounded_at, each.log) for each in found if each.sounded_at]
    return {_name(log): log for _, log in sorted(sounded)}


def _name(log: str) -> str:
    return log.partition("@")[0]
