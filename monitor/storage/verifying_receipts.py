"""Receipts recounted block by block of offsets: no statement has more of them at hand than one block."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Final

from sqlalchemy import Connection, Engine, RowMapping, text

from monitor.storage.engine import snapshot
from monitor.storage.recount import Difference, Found, found_in
from monitor.storage.verifying_days import Span

_BLOCK = 1 << 16
_BLOCKS = 16
_RANGES = 8_000_000
_COUNTS: Final = ("next_offset", "verdicts", "unjudged", "pending", "dead_letters", "duplicates")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A partition of one life of a topic."""

    topic_id: int | None
    topic: str
    partition: int

    @property
    def name(self) -> str:
        """As keys of differences begin."""
        return f"{self.topic} {self.partition}"


def places(engine: Engine) -> list[Place]:
    """Those that have receipts, or that the accounting counts.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    with snapshot(engine) as connection:
        return [Place(**row) for row in connection.execute(_PLACES).mappings()]


def recount_intake(engine: Engine, place: Place) -> Found:
    """Hold the counters of one partition against its receipts, as of one instant.

    Raises:
        LedgerUnavailable: Postgres is away, or a block took longer than the statement timeout.
    """
    where = {"topic_id": place.topic_id, "partition": place.partition}
    counted: dict[str, int] = dict.fromkeys(_COUNTS, 0)
    with snapshot(engine) as connection:
        row = connection.execute(_STORED, {"topic": place.topic, "partition": place.partition}).mappings().one_or_none()
        for start, stop in _stretches(connection, where, _RANGES):
            block = connection.execute(_COUNTED, {**where, "start": start, "stop": stop}).mappings().one()
            for name in _COUNTS[1:]:
                counted[name] += block[name]
            counted["next_offset"] = max(counted["next_offset"], block["next_offset"])
    stored = dict(row) if row else None
    there = counted if counted["next_offset"] else None
    if stored == there:
        return Found()
    named = {"topic": place.topic, "partition": place.partition}
    one = Difference(
        table="intake",
        key=place.name,
        stored=stored and {**named, **stored},
        counted=there and {**named, **there},
    )
    return Found(differences=(one,), total=1)


def recount_outcomes(connection: Connection, span: Span) -> Found:
    """Hold each verdict of a day against the receipt of its record."""
    return found_in(connection, "receipts", _OUTCOMES, since=span.since, until=span.until)


def find_orphans(engine: Engine, all_places: Sequence[Place], days: Sequence[Span]) -> Found:
    """Receipts that say that there is a verdict, and none is there, as of one instant.

    Verdicts are found by their day and receipts by their offset. So both are added up in blocks of offsets, and only
    blocks whose sums differ are looked into. Nothing can be said once retention has taken verdicts away.

    Raises:
        LedgerUnavailable: Postgres is away, or a day or a block took longer than the statement timeout.
    """
    with snapshot(engine) as connection:
        if connection.execute(_EXPIRED).scalar_one():
            return Found()
        judged = _judged_blocks(connection, days)
        found = Found()
        odd = (
            (place.topic_id, place.partition, block * _BLOCK)
            for place in all_places
            if place.topic_id is not None
            for block in _odd_blocks(connection, place.topic_id, place.partition, judged)
        )
        # Each look reads all verdicts once, by their offsets.
        while some := list(islice(odd, _BLOCKS)):
            topic_ids, partitions, starts = zip(*some, strict=True)
            places_of = {"topic_ids": list(topic_ids), "partitions": list(partitions), "starts": list(starts)}
            found += found_in(connection, "receipts", _ORPHANS, **places_of, size=_BLOCK)
        return found


_Sums = dict[tuple[int, int, int], tuple[int, int]]


def _judged_blocks(connection: Connection, days: Sequence[Span]) -> _Sums:
    """How many records with a verdict each block has, and a sum of their offsets' hashes."""
    sums: dict[tuple[int, int, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    # To both ends: what has come since the days were asked for belongs to this instant.
    edges = [None, *[span.since for span in days[1:]], None]
    for since, until in pairwise(edges):
        for row in connection.execute(_JUDGED_BLOCKS, {"since": since, "until": until, "block": _BLOCK}):
            count, mixed = sums[row.topic_id, row.partition, row.block]
            sums[row.topic_id, row.partition, row.block] = count + row.records, mixed ^ row.mixed
    return sums


def _odd_blocks(connection: Connection, topic_id: int, partition: int, judged: _Sums) -> Iterator[int]:
    size = _BLOCK * _BLOCKS
    for start, _ in _stretches(connection, {"topic_id": topic_id, "partition": partition}, size):
        asked = {"topic_ids": [topic_id], "partitions": [partition], "starts": [start], "size": size, "block": _BLOCK}
        for row in connection.execute(_RECEIPT_BLOCKS, asked):
            if judged.get((topic_id, partition, row.block)) != (row.records, row.mixed):
                yield row.block


def _stretches(connection: Connection, where: dict[str, Any], size: int) -> Iterator[tuple[int, int]]:
    row: RowMapping = connection.execute(_EXTENT, where).mappings().one()
    if row["first"] is not None:
        for start in range(row["first"] // size * size, row["last"] + 2048, size):
            yield start, start + size


# From one partition to the next, without reading all ranges.
_PLACES = text("""
with recursive given as (
    (select topic_id, partition from receipt_ranges order by topic_id, partition limit 1)
    union all
    select next.topic_id, next.partition
    from given
    cross join lateral (
        select topic_id, partition from receipt_ranges as kept
        where (kept.topic_id, kept.partition) > (given.topic_id, given.partition)
        order by topic_id, partition
        limit 1
    ) as next
)
select topic_id, topic, partition
from (select topic, partition, topic_id from given join topics using (topic_id)) as named
full join (select topic, partition from intake where next_offset > 0) as counted using (topic, partition)
order by topic, partition
""")
_STORED = text("""
select next_offset, verdicts, unjudged, pending, dead_letters, duplicates from intake
where topic = :topic and partition = :partition and next_offset > 0
""")
_EXTENT = text("""
select min(first_offset) as first, max(first_offset) as last from receipt_ranges
where topic_id = :topic_id and partition = :partition
""")
_LETTERS = {"verdicts": "v", "unjudged": "u", "pending": "p", "dead_letters": "d", "duplicates": "x"}
# Letters are counted where they lie: nothing is made of each.
_SUMS = ", ".join(
    f"coalesce(sum(length(outcomes) - length(replace(outcomes, '{letter}', ''))), 0)::bigint as {name}"
    for name, letter in _LETTERS.items()
)
_COUNTED = text(f"""
select coalesce(max(first_offset + length(rtrim(outcomes, '-'))), 0) as next_offset, {_SUMS}
from receipt_ranges
where topic_id = :topic_id and partition = :partition and first_offset >= :start and first_offset < :stop
""")  # noqa: S608 - a constant is put in
_WORD = "case {} when 'v' then 'verdict' when 'u' then 'unjudged' when 'p' then 'pending' end"
_SAID = """jsonb_build_object('topic', topic, 'partition', said.partition, 'offset', said."offset", 'outcome', {})"""
# Outcomes are kept twice, by record and by trace, because the two are asked for apart. Whose receipt was gone when the
# ledger was migrated has no place.
_OUTCOMES = f"""
select
    concat_ws(' ', topic, said.partition, said."offset") as key,
    case when given.code is not null then {_SAID.format(_WORD.format("given.code"))} end as stored,
    {_SAID.format(_WORD.format("said.outcome"))} as counted
from verdict_rows as said
join topics using (topic_id)
left join lateral (
    select substr(kept.outcomes, (said."offset" - kept.first_offset + 1)::integer, 1) as code
    from receipt_ranges as kept
    where kept.topic_id = said.topic_id and kept.partition = said.partition
        and kept.first_offset > said."offset" - 2048 and kept.first_offset <= said."offset"
        and substr(kept.outcomes, (said."offset" - kept.first_offset + 1)::integer, 1) in ('v', 'u', 'p')
    limit 1
) as given on true
where topic <> 'unknown' and given.code is distinct from said.outcome
    and said.event_time >= :since and said.event_time < :until
    -- The record ended as "could not judge", which a replay may make good.
    and not coalesce(given.code = 'u' and said.outcome = 'v' and said.revision > 0, false)
"""  # noqa: S608 - constants are put in
_EXPIRED = text("select exists (select from expirations where kind = 'verdicts')")
_JUDGED_BLOCKS = text("""
select
    topic_id, partition, "offset" / :block as block, count(*) as records,
    bit_xor(hashint8extended("offset", 0)) as mixed
from (
    select distinct topic_id, partition, "offset" from verdict_rows
    where event_time >= coalesce(cast(:since as timestamptz), '-infinity')
        and event_time < coalesce(cast(:until as timestamptz), 'infinity')
) as said
group by 1, 2, 3
""")
_GIVEN = """
    select topic, kept.partition, kept.topic_id, kept.first_offset + place - 1 as "offset",
        substr(kept.outcomes, place, 1) as code
    from unnest(cast(:topic_ids as integer[]), cast(:partitions as integer[]), cast(:starts as bigint[]))
        as wanted (topic_id, partition, start)
    join receipt_ranges as kept on kept.topic_id = wanted.topic_id and kept.partition = wanted.partition
        and kept.first_offset > wanted.start - 2048 and kept.first_offset < wanted.start + :size
    join topics on topics.topic_id = kept.topic_id
    cross join lateral generate_series(1, length(kept.outcomes)) as place
    where kept.first_offset + place - 1 >= wanted.start and kept.first_offset + place - 1 < wanted.start + :size
        and substr(kept.outcomes, place, 1) in ('v', 'u', 'p')
"""
_RECEIPT_BLOCKS = text(f"""
select "offset" / :block as block, count(*) as records, bit_xor(hashint8extended("offset", 0)) as mixed
from ({_GIVEN}) as said
group by 1
order by 1
""")  # noqa: S608 - a constant is put in
_ORPHANS = f"""
select
    concat_ws(' ', topic, partition, "offset") as key, {_SAID.format(_WORD.format("said.code"))} as stored,
    cast(null as jsonb) as counted
from ({_GIVEN}) as said
where not exists (
    select from verdict_rows as judged
    where judged.topic_id = said.topic_id and judged.partition = said.partition and judged."offset" = said."offset"
)
"""  # noqa: S608 - constants of this module are put in
