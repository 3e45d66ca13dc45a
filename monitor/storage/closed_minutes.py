"""Minutes of first verdicts that no more verdicts are expected for: what detectors fold.

Detectors watch *first* verdicts, the local cascade's word: whether the pool is up must not move the rate that
they see. A minute is folded once. What arrives for it later is late: it counts in every rate, but no detector
sees it, and `late_verdicts` says how many there are.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby

from sqlalchemy import Connection, DateTime, Engine, Subquery, and_, func, literal, or_, select

from monitor.domain.trace import Slice
from monitor.storage.engine import snapshot
from monitor.storage.partition_positions import Position, positions
from monitor.storage.segment_keys import KEY_COLUMNS, SegmentKey, key_of, same_key
from monitor.storage.tables import drift_states, rollups, slice_rollups

_MINUTE = timedelta(minutes=1)
_NEVER = datetime.min.replace(tzinfo=UTC)

WaitedFor = Callable[[Sequence[Position]], Iterable[Position]]
"""Which of all positions minutes are held open for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedMinute:
    """First verdicts with an event time in [minute, minute + 1 min), as they stood when they were read."""

    minute: datetime
    total: int
    hallucinated: int
    slices: Mapping[Slice, tuple[int, int]] = field(default_factory=dict)
    """Total and hallucinated of each part that is counted by itself."""


def every_position(positions: Sequence[Position]) -> Sequence[Position]:
    """Wait for all that are behind."""
    return positions


def closed_minutes(
    engine: Engine, *, lateness: timedelta, waited_for: WaitedFor = every_position, limit: int = 20_000
) -> dict[SegmentKey, tuple[ClosedMinute, ...]]:
    """Minutes that are closed and not folded yet, in order, by segment.

    A minute is closed when its segment has an event `lateness` past the minute's end, and the database's clock is
    past that too: an event dated ahead of time closes nothing early. While records wait in a partition of the
    traces topic, the newest event that came from it must be past that as well: after an outage partitions are
    caught up with one by one, and what still waits in one is as old as the minutes that another has filled. While
    no trace has come from it at all, no minute is closed.
    A minute without verdicts does not appear.

    Args:
        engine: of the ledger.
        lateness: how far behind the newest event another may come.
        waited_for: is told of all partitions, and chooses those that hold minutes open while they are behind.
        limit: at most so many minutes come at once; call again after folding them.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    newest = func.max(rollups.c.last_event_time).over(partition_by=[rollups.c[name] for name in KEY_COLUMNS])
    unfolded = (
        select(rollups, newest.label("newest"))
        .select_from(rollups.outerjoin(drift_states, same_key(rollups, drift_states)))
        .where(
            rollups.c.folded_total.is_(None),
            # Minutes of replays alone are none that a detector waits for, or learns from.
            rollups.c.traces > rollups.c.replayed,
            or_(drift_states.c.folded_through.is_(None), rollups.c.minute > drift_states.c.folded_through),
        )
        .subquery()
    )
    order = (*[unfolded.c[name] for name in KEY_COLUMNS], unfolded.c.minute)
    with snapshot(engine) as connection:
        # `least` passes over the null that stands for "no partition is behind".
        horizon = literal(_horizon(waited_for(positions(connection))), DateTime(timezone=True))
        watermark = func.least(unfolded.c.newest, func.now(), horizon)
        closed = (
            select(unfolded).where(unfolded.c.minute + (_MINUTE + lateness) <= watermark).order_by(*order).limit(limit)
        )
        rows = connection.execute(closed).mappings().all()
        slices = _slices(connection, closed.subquery())
    return {
        key: tuple(
            ClosedMinute(
                minute=row["minute"],
                total=row["first_total"],
                hallucinated=row["first_hallucinated"],
                slices=slices.get((key, row["minute"]), {}),
            )
            for row in minutes
        )
        for key, minutes in groupby(rows, key=key_of)
    }


def _horizon(waited_for: Iterable[Position]) -> datetime | None:
    """How far event time has come in all of them that are behind; None when none is.

    Records missing before the newest one that came are lost, or overtaken: nothing waits for them.
    """
    return min((each.newest_event_time or _NEVER for each in waited_for if each.behind), default=None)


def _slices(
    connection: Connection, closed: Subquery
) -> dict[tuple[SegmentKey, datetime], dict[Slice, tuple[int, int]]]:
    parts = slice_rollups.c
    same = and_(*[parts[name] == closed.c[name] for name in (*KEY_COLUMNS, "minute")])
    found: dict[tuple[SegmentKey, datetime], dict[Slice, tuple[int, int]]] = {}
    query = select(slice_rollups).join(closed, same).where(parts.first_total > 0)
    for row in connection.execute(query).mappings():
        part = Slice(dimension=row["dimension"], value=row["value"])
        counts = (row["first_total"], row["first_hallucinated"])
        found.setdefault((key_of(row), row["minute"]), {})[part] = counts
    return found


def late_verdicts(engine: Engine) -> dict[SegmentKey, int]:
    """First verdicts that came for a minute after it was folded, by segment; segments without any are left out."""
    late = func.sum(rollups.c.first_total - func.coalesce(rollups.c.folded_total, 0))
    query = (
        select(*[rollups.c[name] for name in KEY_COLUMNS], late.label("late"))
        .select_from(rollups.join(drift_states, same_key(rollups, drift_states)))
        .where(rollups.c.minute <= drift_states.c.folded_through)
        .group_by(*[rollups.c[name] for name in KEY_COLUMNS])
        .having(late > 0)
    )
    with snapshot(engine) as connection:
        return {key_of(row): int(row["late"]) for row in connection.execute(query).mappings()}
