"""Detectors' states, and what folding closed minutes into them came to: kept in one transaction, alerts among it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from monitor.domain.alert import Alert
from monitor.domain.lifecycle import LifeCycle
from monitor.domain.trace import Slice
from monitor.storage.alarms import take_alarm
from monitor.storage.alerts import resolve_recovered
from monitor.storage.closed_minutes import ClosedMinute
from monitor.storage.engine import retry_conflicts, snapshot, transaction
from monitor.storage.segment_keys import SegmentKey, is_of, key_of
from monitor.storage.tables import drift_states, rollups, slice_states


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorState:
    """What a detector remembers, and the last minute that it has seen."""

    state: Mapping[str, Any]
    folded_through: datetime


def load_states(engine: Engine) -> dict[SegmentKey, DetectorState]:
    """Every detector's state.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    with snapshot(engine) as connection:
        rows = connection.execute(select(drift_states)).mappings().all()
    return {key_of(row): DetectorState(state=row["state"], folded_through=row["folded_through"]) for row in rows}


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
            found.setdefault(key_of(row), {})[part] = kept
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


def _save_state(
    connection: Connection, key: SegmentKey, *, state: Mapping[str, Any], previous: datetime | None, through: datetime
) -> bool:
    values = {"state": dict(state), "folded_through": through}
    add = insert(drift_states).values(**key.columns(), **values).on_conflict_do_nothing()
    change = (
        update(drift_states)
        .where(is_of(drift_states, key), drift_states.c.folded_through == previous)
        .values(**values, updated_at=func.now())
    )
    saved = (add if previous is None else change).returning(drift_states.c.folded_through)
    return connection.execute(saved).first() is not None


def _save_slices(connection: Connection, key: SegmentKey, slices: SliceChanges) -> None:
    if slices.forgotten:
        gone = tuple_(slice_states.c.dimension, slice_states.c.value).in_(
            [(part.dimension, part.value) for part in slices.forgotten]
        )
        connection.execute(delete(slice_states).where(is_of(slice_states, key), gone))
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
    unfolded = (is_of(rollups, key), rollups.c.folded_total.is_(None), rollups.c.minute <= minutes[-1].minute)
    # Rows are locked in the order of their keys, as the ledger does, so that the two cannot wait in a circle.
    connection.execute(select(rollups.c.minute).where(*unfolded).order_by(rollups.c.minute).with_for_update())
    connection.execute(
        update(rollups)
        .where(is_of(rollups, key), rollups.c.minute == bindparam("at"))
        .values(folded_total=bindparam("total_seen"), folded_hallucinated=bindparam("hallucinated_seen")),
        [
            {"at": minute.minute, "total_seen": minute.total, "hallucinated_seen": minute.hallucinated}
            for minute in minutes
        ],
    )
    # Minutes that came between the reading and now, before the last one folded: all of theirs is late.
    connection.execute(update(rollups).where(*unfolded).values(folded_total=0, folded_hallucinated=0))
