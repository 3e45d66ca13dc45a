"""How far the partitions of the traces topic reach, and how far the ledger has come in each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, select, text

from monitor.storage.engine import driver_cursor, retry_conflicts, transaction
from monitor.storage.tables import intake
from monitor.storage.words import TOPICS, numbers

_NOTE = """
insert into intake as kept (topic, partition, high_watermark)
select %s, partition, "end" from unnest(%s::integer[], %s::bigint[]) as told (partition, "end")
order by partition
on conflict (topic, partition) do update set high_watermark = excluded.high_watermark
where kept.high_watermark < excluded.high_watermark
"""

# Of a topic that was made anew only its latest life has anything to wait for.
_LATEST_LIVES = text(
    "topic in (select distinct on (split_part(topic, '@', 1)) topic from topics"
    " order by split_part(topic, '@', 1), topic_id desc)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far the ledger has come in one partition of the traces topic.

    Attributes:
        log: its topic, in its latest life.
        next_offset: one past the last record that became of something; 0 before the first.
        end: of the partition, as last heard.
        newest_event_time: of all traces that came from it, those dated ahead of time left out; None before the first.
    """

    log: str
    partition: int
    next_offset: int
    end: int
    newest_event_time: datetime | None

    @property
    def behind(self) -> bool:
        """Whether there are records that have not come yet."""
        return self.end > self.next_offset


def note_ends(engine: Engine, log: str, ends: Mapping[int, int]) -> None:
    """Keep where partitions end, by partition: whichever is farther, this or what the ledger has heard before.

    Raises:
        LedgerUnavailable: nothing was kept.
    """
    known = sorted(ends)

    def write() -> None:
        with transaction(engine) as connection, driver_cursor(connection) as cursor:
            numbers(cursor, TOPICS, [(log,)])
            cursor.execute(_NOTE, (log, known, [ends[partition] for partition in known]))

    retry_conflicts(write)


def positions(connection: Connection) -> Sequence[Position]:
    """Of all partitions of the traces topic that the ledger knows, as the caller's transaction sees them."""
    query = select(
        intake.c.topic.label("log"),
        intake.c.partition,
        intake.c.next_offset,
        intake.c.high_watermark.label("end"),
        intake.c.newest_event_time,
    ).where(~intake.c.replays, _LATEST_LIVES)
    return [Position(**row) for row in connection.execute(query).mappings()]
