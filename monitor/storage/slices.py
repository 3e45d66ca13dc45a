"""What a rise is explained from: first verdicts before and after it, whole and by slice, and answers to look at."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, Table, func, literal, select
from sqlalchemy.sql.elements import ColumnElement

from monitor.domain.explanation import Example
from monitor.domain.trace import Slice
from monitor.domain.verdict import Label
from monitor.drift.causes import Counts
from monitor.storage.engine import snapshot
from monitor.storage.segment_keys import SegmentKey
from monitor.storage.tables import rollups, slice_rollups, traces, verdicts

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Minutes before and after a change of the rate of one segment, or of a slice of it.

    Attributes:
        part: the slice; None for all of the segment.
        since: where the minutes before begin.
        at: where the minutes after begin; its second is cut off.
        until: the last minute after.
    """

    key: SegmentKey
    since: datetime
    at: datetime
    until: datetime
    part: Slice | None = None

    @property
    def first_minute(self) -> datetime:
        """The first minute after."""
        return self.at.replace(second=0, microsecond=0)

    @property
    def end(self) -> datetime:
        """Where the last minute ends."""
        return self.until.replace(second=0, microsecond=0) + _MINUTE


@dataclass(frozen=True, kw_only=True, slots=True)
class Sliced:
    """First verdicts before and after a change: of all traffic, and of parts of it by (dimension, value)."""

    whole: Counts
    slices: dict[tuple[str, str], Counts]

    def of(self, part: Slice | None) -> Counts:
        """What was counted of a slice, or of the whole."""
        nothing = Counts(before=0, hallucinated_before=0, after=0, hallucinated_after=0)
        return self.whole if part is None else self.slices.get((part.dimension, part.value), nothing)


def count_slices(engine: Engine, change: Change) -> Sliced:
    """Count a segment's first verdicts before and after a change, as of one instant.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    parts = slice_rollups.c
    whole = select(*_tallies(rollups, change)).where(*_within(rollups, change))
    by_slice = (
        select(parts.dimension, parts.value, *_tallies(slice_rollups, change))
        .where(*_within(slice_rollups, change))
        .group_by(parts.dimension, parts.value)
    )
    with snapshot(engine) as connection:
        found = connection.execute(by_slice).all()
        all_of_it = connection.execute(whole).one()
    return Sliced(
        whole=_counts(*map(int, all_of_it)),
        slices={(row.dimension, row.value): _counts(*map(int, row[2:])) for row in found},
    )


def clearest_examples(
    engine: Engine, change: Change, *, part: Slice | None = None, limit: int = 10
) -> tuple[Example, ...]:
    """The answers since the change that the local cascade is surest are hallucinated, the surest first.

    Args:
        engine: of the ledger.
        change: whose segment and minutes.
        part: only of this slice.
        limit: at most so many.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    said = verdicts.c
    query = select(said.trace_id, said.event_time, said.first_probability).where(
        *_of(verdicts, change.key),
        said.event_time >= change.first_minute,
        said.event_time < change.end,
        said.first_label == Label.HALLUCINATED.value,
    )
    if part is not None:
        query = query.where(in_slice(part))
    query = query.order_by(said.first_probability.desc(), said.event_time, said.trace_id).limit(limit)
    with snapshot(engine) as connection:
        return tuple(
            Example(trace_id=row.trace_id, event_time=row.event_time, probability=row.first_probability)
            for row in connection.execute(query)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """First verdicts with an event time in [start, end)."""

    start: datetime
    end: datetime
    total: int
    hallucinated: int


def rate_course(
    engine: Engine, key: SegmentKey, *, since: datetime, until: datetime, step: timedelta, part: Slice | None = None
) -> tuple[Course, ...]:
    """First verdicts of a segment, or of a slice of it, step by step; steps without verdicts are left out.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    table = rollups if part is None else slice_rollups
    counted = table.c
    start = func.date_bin(step, counted.minute, since).label("start")
    totals = (func.sum(counted.first_total), func.sum(counted.first_hallucinated))
    query = (
        select(start, *totals)
        .where(*_of(table, key), counted.minute >= since, counted.minute <= until)
        .group_by(start)
        .order_by(start)
    )
    if part is not None:
        query = query.where(slice_rollups.c.dimension == part.dimension, slice_rollups.c.value == part.value)
    with snapshot(engine) as connection:
        found = connection.execute(query).all()
    return tuple(
        Course(start=at, end=at + step, total=int(total), hallucinated=int(hallucinated))
        for at, total, hallucinated in found
    )


def newest_minute(engine: Engine, key: SegmentKey) -> datetime | None:
    """The last minute with a first verdict; None where there is none.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    with snapshot(engine) as connection:
        newest: datetime | None = connection.execute(
            select(func.max(rollups.c.minute)).where(*_of(rollups, key))
        ).scalar_one()
    return newest


def _tallies(table: Table, change: Change) -> list[ColumnElement[int]]:
    later = table.c.minute >= change.first_minute
    return [
        func.coalesce(func.sum(column).filter(when), 0)
        for when in (~later, later)
        for column in (table.c.first_total, table.c.first_hallucinated)
    ]


def _counts(before: int, hallucinated_before: int, after: int, hallucinated_after: int) -> Counts:
    return Counts(
        before=before, hallucinated_before=hallucinated_before, after=after, hallucinated_after=hallucinated_after
    )


def _within(table: Table, change: Change) -> list[ColumnElement[bool]]:
    return [*_of(table, change.key), table.c.minute >= change.since, table.c.minute < change.end]


def _of(table: Table, key: SegmentKey) -> list[ColumnElement[bool]]:
    return [table.c[name] == value for name, value in key.columns().items()]


def in_slice(part: Slice) -> ColumnElement[bool]:
    """Whether the trace of a row of `verdicts` is in this slice; not where its payload is kept no longer."""
    columns = {"generator_model": traces.c.generator_model, "prompt_version": traces.c.prompt_version}
    marked = columns.get(part.dimension, traces.c.tags.op("->>")(part.dimension))
    return (
        select(literal(True))
        .where(*[traces.c[name] == verdicts.c[name] for name in ("tenant", "trace_id", "event_time")])
        .where(func.left(marked, 200) == part.value)
        .exists()
    )
