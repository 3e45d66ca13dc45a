"""What drift detection reads and keeps: closed minutes of first verdicts, detector states, and the alerts raised.

Detectors watch *first* verdicts, the local cascade's word: whether the pool is up must not move the rate that
they see. A minute is folded once. What arrives for it later is late: it counts in every rate, but no detector
sees it, and `late_verdicts` says how many there are.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    RowMapping,
    Subquery,
    Table,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.elements import ColumnElement

from monitor.domain.alert import Alert
from monitor.domain.lifecycle import LifeCycle
from monitor.domain.trace import Segment, Slice
from monitor.storage.alarms import take_alarm
from monitor.storage.alerts import resolve_recovered
from monitor.storage.engine import retry_conflicts, snapshot, transaction
from monitor.storage.tables import drift_states, rollups, slice_rollups, slice_states

_MINUTE = timedelta(minutes=1)
_KEY = ("tenant", "service", "environment", "evaluator", "judge_version")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentKey:
    """What one detector watches: a change of judge version is a new detector, not a change of the rate."""

    segment: Segment
    evaluator: str
    judge_version: str

    def columns(self) -> dict[str, str]:
        """The key's columns, as the tables name them."""
        return {
            "tenant": self.segment.tenant,
            "service": self.segment.service,
            "environment": self.segment.environment,
            "evaluator": self.evaluator,
            "judge_version": self.judge_version,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedMinute:
    """First verdicts with an event time in [minute, minute + 1 min), as they stood when they were read."""

    minute: datetime
    total: int
    hallucinated: int
    slices: Mapping[Slice, tuple[int, int]] = field(default_factory=dict)
    """Total and hallucinated of each part that is counted by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorState:
    """What a detector remembers, and the last minute that it has seen."""

    state: Mapping[str, Any]
    folded_through: datetime


def closed_minutes(
    engine: Engine, *, lateness: timedelta, limit: int = 20_000
) -> dict[SegmentKey, tuple[ClosedMinute, ...]]:
    """Minutes that are closed and not folded yet, in order, by segment.

    A minute is closed when its segment has an event `lateness` past the minute's end, and the database's clock is
    past that too: an event dated ahead of time closes nothing early. A minute without verdicts
    does not appear. At most `limit` minutes come at once; call again after folding them.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    newest = func.max(rollups.c.last_event_time).over(partition_by=[rollups.c[name] for name in _KEY])
    unfolded = (
        select(rollups, newest.label("newest"))
        .select_from(rollups.outerjoin(drift_states, _same_key(rollups, drift_states)))
        .where(
            rollups.c.folded_total.is_(None),
            or_(drift_states.c.folded_through.is_(None), rollups.c.minute > drift_states.c.folded_through),
        )
        .subquery()
    )
    order = (*[unfolded.c[name] for name in _KEY], unfolded.c.minute)
    closed = (
        select(unfolded)
        .where(unfolded.c.minute + (_MINUTE + lateness) <= func.least(unfolded.c.newest, func.now()))
        .order_by(*order)
        .limit(limit)
    )
    with snapshot(engine) as connection:
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
        for key, minutes in groupby(rows, key=_key)
    }


def _slices(
    connection: Connection, closed: Subquery
) -> dict[tuple[SegmentKey, datetime], dict[Slice, tuple[int, int]]]:
    parts = slice_rollups.c
    same = and_(*[parts[name] == closed.c[name] for name in (*_KEY, "minute")])
    found: dict[tuple[SegmentKey, datetime], dict[Slice, tuple[int, int]]] = {}
    query = select(slice_rollups).join(closed, same).where(parts.first_total > 0)
    for row in connection.execute(query).mappings():
        part = Slice(dimension=row["dimension"], value=row["value"])
        counts = (row["first_total"], row["first_hallucinated"])
        found.setdefault((_key(row), row["minute"]), {})[part] = counts
    return found


def load_states(engine: Engine) -> dict[SegmentKey, DetectorState]:
    """Every detector's state.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    with snapshot(engine) as connection:
        rows = connection.execute(select(drift_states)).mappings().all()
    return {_key(row): DetectorState(state=row["state"], folded_through=row["folded_through"]) for row in rows}


def load_slice_states(engine: Engine) -> dict[SegmentKey, dict[Slice, DetectorState]]:
    """Every slice's detector state, by segment.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    found: dict[SegmentKey, dict[Slice, DetectorState]] = {}
    with snapshot(engine) as connection:
        for row in connection.execute(select(slice_states)).mappings():
            part = Slice(dimension=row["dimension"], value=row["value"])
            kept = DetectorState(state=row["state"], folded_through=row["folded_through"])
            found.setdefault(_key(row), {})[part] = kept
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceChanges:
    """What folding did to the detectors of slices: states to keep, and slices to forget."""

    kept: Mapping[Slice, DetectorState] = field(default_factory=dict)
    forgotten: Collection[Slice] = ()


def save_fold(
    engine: Engine,
    key: SegmentKey,
    *,
    minutes: Sequence[ClosedMinute],
    state: Mapping[str, Any],
    previous: datetime | None,
    rules: LifeCycle,
    alerts: Sequence[Alert] = (),
    slices: SliceChanges | None = None,
) -> list[Alert] | None:
    """Keep what folding these minutes came to, in one transaction: state, folded minutes, alerts, deliveries.

    Args:
        engine: of the ledger.
        key: whose minutes they are.
        minutes: exactly those that were folded, as `closed_minutes` gave them, in order, at least one.
        state: the detector's new state, as JSON values.
        previous: `folded_through` of the state that was folded into; None when there was none.
        rules: what an alarm does to an alert that there is.
        alerts: one for each alarm of these minutes, in their order; their ids must be new. An alarm of a segment
            whose alert is open, or was a while ago, belongs to that one. One that says that the rate has recovered
            resolves the open ones.
        slices: what became of their detectors.

    Returns:
        The alerts that were raised or changed, as they now stand. None, with nothing kept, when another process has
        folded this segment meanwhile: load its state and begin again.

    Raises:
        LedgerUnavailable: nothing was kept.
    """

    def save() -> list[Alert] | None:
        with transaction(engine) as connection:
            if not _save_state(connection, key, state=state, previous=previous, through=minutes[-1].minute):
                return None
            _mark_folded(connection, key, minutes)
            if slices is not None:
                _save_slices(connection, key, slices)
            return [changed for alert in alerts for changed in _raise_or_resolve(connection, alert, rules)]

    return retry_conflicts(save)


def _raise_or_resolve(connection: Connection, alert: Alert, rules: LifeCycle) -> list[Alert]:
    if not alert.alarm.recovers:
        changed = take_alarm(connection, alert, rules)
        return [] if changed is None else [changed]
    note = f"the rate is back at {alert.alarm.rate_after:.1%}"
    return resolve_recovered(connection, alert, at=alert.raised_at, note=note)


def late_verdicts(engine: Engine) -> dict[SegmentKey, int]:
    """First verdicts that came for a minute after it was folded, by segment; segments without any are left out."""
    late = func.sum(rollups.c.first_total - func.coalesce(rollups.c.folded_total, 0))
    query = (
        select(*[rollups.c[name] for name in _KEY], late.label("late"))
        .select_from(rollups.join(drift_states, _same_key(rollups, drift_states)))
        .where(rollups.c.minute <= drift_states.c.folded_through)
        .group_by(*[rollups.c[name] for name in _KEY])
        .having(late > 0)
    )
    with snapshot(engine) as connection:
        return {_key(row): int(row["late"]) for row in connection.execute(query).mappings()}


def _save_state(
    connection: Connection, key: SegmentKey, *, state: Mapping[str, Any], previous: datetime | None, through: datetime
) -> bool:
    values = {"state": dict(state), "folded_through": through}
    add = insert(drift_states).values(**key.columns(), **values).on_conflict_do_nothing()
    change = (
        update(drift_states)
        .where(_is(drift_states, key), drift_states.c.folded_through == previous)
        .values(**values, updated_at=func.now())
    )
    saved = (add if previous is None else change).returning(drift_states.c.folded_through)
    return connection.execute(saved).first() is not None


def _save_slices(connection: Connection, key: SegmentKey, slices: SliceChanges) -> None:
    if slices.forgotten:
        gone = tuple_(slice_states.c.dimension, slice_states.c.value).in_(
            [(part.dimension, part.value) for part in slices.forgotten]
        )
        connection.execute(delete(slice_states).where(_is(slice_states, key), gone))
    if slices.kept:
        add = insert(slice_states)
        changed = {name: add.excluded[name] for name in ("state", "folded_through")}
        connection.execute(
            add.on_conflict_do_update(index_elements=slice_states.primary_key.columns, set_=changed),
            [
                {
                    **key.columns(),
                    "dimension": part.dimension,
                    "value": part.value,
                    "state": dict(kept.state),
                    "folded_through": kept.folded_through,
                }
                for part, kept in slices.kept.items()
            ],
        )


def _mark_folded(connection: Connection, key: SegmentKey, minutes: Sequence[ClosedMinute]) -> None:
    unfolded = (_is(rollups, key), rollups.c.folded_total.is_(None), rollups.c.minute <= minutes[-1].minute)
    # Rows are locked in the order of their keys, as the ledger does, so that the two cannot wait in a circle.
    connection.execute(select(rollups.c.minute).where(*unfolded).order_by(rollups.c.minute).with_for_update())
    connection.execute(
        update(rollups)
        .where(_is(rollups, key), rollups.c.minute == bindparam("at"))
        .values(folded_total=bindparam("total_seen"), folded_hallucinated=bindparam("hallucinated_seen")),
        [
            {"at": minute.minute, "total_seen": minute.total, "hallucinated_seen": minute.hallucinated}
            for minute in minutes
        ],
    )
    # Minutes that came between the reading and now, before the last one folded: all of theirs is late.
    connection.execute(update(rollups).where(*unfolded).values(folded_total=0, folded_hallucinated=0))


def _key(row: RowMapping) -> SegmentKey:
    return SegmentKey(
        segment=Segment(tenant=row["tenant"], service=row["service"], environment=row["environment"]),
        evaluator=row["evaluator"],
        judge_version=row["judge_version"],
    )


def _is(table: Table, key: SegmentKey) -> ColumnElement[bool]:
    return and_(*[table.c[name] == value for name, value in key.columns().items()])


def _same_key(left: Table, right: Table) -> ColumnElement[bool]:
    return and_(*[left.c[name] == right.c[name] for name in _KEY])
