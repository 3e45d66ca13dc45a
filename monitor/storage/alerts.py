"""Alerts as they stand, and how they came there. Every change of state puts its deliveries into the outbox."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, and_, delete, insert, select
from sqlalchemy.sql.elements import ColumnElement

from monitor.domain.alert import Alert, AlertState, Severity
from monitor.domain.confirmation import ConfirmationState
from monitor.domain.lifecycle import Change, LifeCycle, Rise, moved, opened, reopened, rise_of, severity_of, worsened
from monitor.domain.trace import Slice
from monitor.storage.alert_rows import (
    DRIFT,
    alarm_columns,
    alerts_now,
    apply_change,
    known_columns,
    note,
    part_columns,
    standing_columns,
    standing_of,
    to_alert,
)
from monitor.storage.engine import snapshot, transaction
from monitor.storage.outbox import enqueue
from monitor.storage.silences import is_silenced
from monitor.storage.tables import alert_transitions, alerts, confirmation_samples, slice_rollups


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """One step in an alert's life.

    Attributes:
        before: None for its first state; the same as `after` for what did not change it.
        evidence: of the alarm that brought it about, if one did.
    """

    at: datetime
    actor: str
    before: AlertState | None
    after: AlertState
    note: str
    evidence: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertHistory:
    """An alert with all that happened to it, oldest first, and whether a silence covers it now."""

    alert: Alert
    silenced: bool
    transitions: tuple[Transition, ...]


def take_alarm(connection: Connection, alert: Alert, rules: LifeCycle) -> Alert | None:
    """Make of an alarm what it is, in the caller's transaction: a new alert, or more of the one that there is.

    Args:
        connection: in a transaction in which nobody else folds this segment.
        alert: as the alarm would open it: pending, or firing at once.
        rules: of this installation.

    Returns:
        The alert that the alarm belongs to, as it now stands; None where the alarm only adds a note to one.
    """
    wider = _open_beside(connection, alert)
    if wider is not None:
        return _join(connection, wider, alert)
    last = _last_alike(connection, alert)
    state, resolved_at = (AlertState(last.state), last.resolved_at) if last else (None, None)
    rise = rise_of(state, resolved_at, alert.alarm.event_time, rules)
    if last is None or rise is Rise.OPENS:
        raise_alert(connection, alert)
        return alert
    return (_continue if rise is Rise.CONTINUES else _reopen)(connection, last, alert, rules)


def raise_alert(connection: Connection, alert: Alert) -> None:
    """Keep a new alert, which is pending or fires, with its transitions and deliveries, in the caller's transaction."""
    silenced = is_silenced(connection, alert.segment)
    change = moved(opened(alert.raised_at), alert.state, now=alert.raised_at, silenced=silenced)
    standing = change.standing if change else opened(alert.raised_at)
    segment = alert.segment
    # Its times are the database's own, by their defaults: whoever tends it later reads that clock.
    timeless = {
        name: value for name, value in standing_columns(standing).items() if name not in {"state_since", "told_at"}
    }
    connection.execute(
        insert(alerts).values(
            alert_id=alert.alert_id,
            tenant=segment.tenant,
            service=segment.service,
            environment=segment.environment,
            evaluator=alert.evaluator,
            judge_version=alert.judge_version,
            severity=alert.severity.value,
            average_run_length=alert.average_run_length,
            raised_at=alert.raised_at,
            **alarm_columns(alert.alarm),
            **part_columns(alert.part),
            **known_columns(alert),
            **timeless,
        )
    )
    evidence = alert.alarm.evidence
    pending = replace(alert, state=AlertState.PENDING)
    note(connection, pending, before=None, at=alert.raised_at, actor=DRIFT, evidence=evidence)
    if change:
        note(connection, alert, before=AlertState.PENDING, at=alert.raised_at, actor=DRIFT)
        enqueue(connection, alert, told=change.told, silenced=silenced)


def change_state(
    engine: Engine, alert_id: str, state: AlertState, *, at: datetime, actor: str, note: str = ""
) -> Alert | None:
    """Move an alert to `state` and enqueue its deliveries; nothing happens when it is there already.

    A resolved alert stays resolved, unless its rate rises again soon.

    Returns:
        The alert as it now stands; None when there is none with this id.

    Raises:
        LedgerUnavailable: nothing was changed.
    """
    with transaction(engine) as connection:
        query = alerts_now().where(alerts.c.alert_id == alert_id).with_for_update(of=alerts)
        found = connection.execute(query).one_or_none()
        return _move(connection, found, state, at=at, actor=actor, text=note) if found else None


def resolve_recovered(connection: Connection, like: Alert, *, at: datetime, note: str) -> list[Alert]:
    """Resolve the open alerts of the same segment or slice, evaluator and judge version, in the caller's transaction.

    Args:
        connection: in a transaction.
        like: whose segment, evaluator and judge version are meant; its alarm's event time is when the rate was back.
        at: by the worker's clock.
        note: what the transition says.
    """
    query = alerts_now().where(*_alike(like), _of_part(like.part), alerts.c.state != AlertState.RESOLVED.value)
    found = connection.execute(query.order_by(alerts.c.alert_id).with_for_update(of=alerts)).all()
    back = like.alarm.event_time
    return [
        _move(connection, row, AlertState.RESOLVED, at=at, actor=DRIFT, text=note, resolved_at=back) for row in found
    ]


def find_alerts(engine: Engine, *, states: Sequence[AlertState] = tuple(AlertState), limit: int = 1000) -> list[Alert]:
    """The newest alerts in one of these states, newest first."""
    return [alert for alert, _ in find_alerts_and_silenced(engine, states=states, limit=limit)]


def find_alerts_and_silenced(
    engine: Engine, *, states: Sequence[AlertState] = tuple(AlertState), limit: int = 1000
) -> list[tuple[Alert, bool]]:
    """The newest alerts in one of these states, newest first, each with whether a silence covers it now."""
    query = (
        alerts_now()
        .where(alerts.c.state.in_([state.value for state in states]))
        .order_by(alerts.c.raised_at.desc(), alerts.c.alert_id)
        .limit(limit)
    )
    with snapshot(engine) as connection:
        return [(to_alert(row), row.silenced) for row in connection.execute(query)]


def find_alert(engine: Engine, alert_id: str) -> Alert | None:
    """The alert with this id, as it stands; None when there is none."""
    with snapshot(engine) as connection:
        row = connection.execute(alerts_now().where(alerts.c.alert_id == alert_id)).one_or_none()
    return None if row is None else to_alert(row)


def find_history(engine: Engine, alert_id: str) -> AlertHistory | None:
    """An alert with its transitions; None when there is none with this id."""
    steps = select(alert_transitions).where(alert_transitions.c.alert_id == alert_id).order_by(alert_transitions.c.id)
    with snapshot(engine) as connection:
        found = connection.execute(alerts_now().where(alerts.c.alert_id == alert_id)).one_or_none()
        if found is None:
            return None
        return AlertHistory(
            alert=to_alert(found),
            silenced=found.silenced,
            transitions=tuple(_to_transition(row) for row in connection.execute(steps)),
        )


def _move(
    connection: Connection,
    row: Row[Any],
    state: AlertState,
    *,
    at: datetime,
    actor: str,
    text: str,
    resolved_at: datetime | None = None,
) -> Alert:
    change = moved(standing_of(row), state, now=row.now, silenced=row.silenced)
    if change is None:
        return to_alert(row)
    # By hand there is no event time, and the clock is near it.
    values = {"resolved_at": resolved_at or at} if state is AlertState.RESOLVED else {}
    alert = apply_change(connection, row, change, **values)
    note(connection, alert, before=change.before, at=at, actor=actor, text=text)
    return alert


def _continue(connection: Connection, row: Row[Any], alarmed: Alert, rules: LifeCycle) -> Alert:
    alarm = alarmed.alarm
    # Against the rate before the first rise: the detector has begun anew since, at the risen rate.
    severity = severity_of(row.rate_before, alarm.rate_after, rules)
    standing = standing_of(row)
    change = Change.none(standing)
    if severity.value != row.severity and severity is severity.CRITICAL:
        change = worsened(standing, now=row.now, silenced=row.silenced)
    alert = apply_change(connection, row, change, rate_after=alarm.rate_after, severity=severity.value)
    text = f"rose again to {alarm.rate_after:.1%}"
    note(connection, alert, before=change.before, at=alarmed.raised_at, actor=DRIFT, text=text, evidence=alarm.evidence)
    return alert


def _reopen(connection: Connection, row: Row[Any], alarmed: Alert, rules: LifeCycle) -> Alert:
    worse = row.worse or (alarmed.severity is Severity.CRITICAL and row.severity != Severity.CRITICAL.value)
    standing = replace(standing_of(row), worse=worse)
    change = reopened(standing, now=row.now, silenced=row.silenced, rules=rules)
    alarm = alarmed.alarm
    # What the pool was asked about the rise before says nothing of this one.
    connection.execute(delete(confirmation_samples).where(confirmation_samples.c.alert_id == row.alert_id))
    known = {**alarm_columns(alarm), **known_columns(alarmed), "average_run_length": alarmed.average_run_length}
    values = {"severity": alarmed.severity.value, "resolved_at": None, **known}
    alert = apply_change(connection, row, change, **values)
    text = f"rose again to {alarm.rate_after:.1%}, soon after it was resolved"
    note(connection, alert, before=change.before, at=alarmed.raised_at, actor=DRIFT, text=text, evidence=alarm.evidence)
    return alert


def _join(connection: Connection, row: Row[Any], alarmed: Alert) -> Alert | None:
    """More of what an open alert of the same segment tells: noted, and told only where it makes it critical.

    The alert of a slice becomes the segment's where all of it rose: it ends when all of it is back.
    """
    worse = alarmed.severity is Severity.CRITICAL and row.severity != Severity.CRITICAL.value
    standing = standing_of(row)
    change = worsened(standing, now=row.now, silenced=row.silenced) if worse else Change.none(standing)
    values: dict[str, Any] = {"severity": alarmed.severity.value} if worse else {}
    if alarmed.part is None:
        values |= _widened(connection, row, alarmed)
    alert = apply_change(connection, row, change, **values)
    alarm = alarmed.alarm
    text = f"{alarmed.part or 'all of it'} rose, too, from {alarm.rate_before:.1%} to {alarm.rate_after:.1%}"
    note(connection, alert, before=change.before, at=alarmed.raised_at, actor=DRIFT, text=text, evidence=alarm.evidence)
    return alert if values else None


def _widened(connection: Connection, row: Row[Any], alarmed: Alert) -> dict[str, Any]:
    """The columns of a slice's alert that becomes its segment's. What the pool said stays, not what it is asked."""
    known = to_alert(row)
    confirmation = known.confirmation
    if confirmation is None or confirmation.state is ConfirmationState.PENDING:
        connection.execute(delete(confirmation_samples).where(confirmation_samples.c.alert_id == row.alert_id))
        confirmation = alarmed.confirmation
    explanation = alarmed.explanation if alarmed.explanation.causes else known.explanation
    widened = replace(alarmed, explanation=explanation, confirmation=confirmation)
    return alarm_columns(alarmed.alarm) | part_columns(None) | known_columns(widened)


_SEGMENT = ("tenant", "service", "environment", "evaluator", "judge_version")


def _open_beside(connection: Connection, like: Alert) -> Row[Any] | None:
    """An open alert of the same segment that this alarm belongs to, though it is not of the same part.

    A whole and its slices are one thing; so are slices of different dimensions, where both have traffic. Two values of
    one dimension share none: each has an alert of its own.
    """
    query = alerts_now().where(*_alike(like), alerts.c.state != AlertState.RESOLVED.value)
    rows = connection.execute(query.order_by(alerts.c.raised_at, alerts.c.alert_id).with_for_update(of=alerts)).all()
    if any((row.dimension, row.value) == _names(like.part) for row in rows):
        return None
    return next((row for row in rows if _shares_traffic(connection, row, like)), None)


def _shares_traffic(connection: Connection, row: Row[Any], like: Alert) -> bool:
    if like.part is None or row.dimension is None:
        return True
    if row.dimension == like.part.dimension:
        return False
    # A slice that has no traffic any more (a version that was rolled back) is behind no new rise.
    counted, alarm = slice_rollups.c, like.alarm
    seen = select(counted.minute).where(
        *[counted[name] == getattr(row, name) for name in (*_SEGMENT, "dimension", "value")],
        counted.minute >= alarm.change_at.replace(second=0, microsecond=0),
        counted.minute <= alarm.event_time,
    )
    return connection.execute(seen.limit(1)).first() is not None


def _names(part: Slice | None) -> tuple[str | None, str | None]:
    return (part.dimension, part.value) if part else (None, None)


def _of_part(part: Slice | None) -> ColumnElement[bool]:
    if part is None:
        return alerts.c.dimension.is_(None)
    return and_(alerts.c.dimension == part.dimension, alerts.c.value == part.value)


def _last_alike(connection: Connection, like: Alert) -> Row[Any] | None:
    is_open = alerts.c.state != AlertState.RESOLVED.value
    order = (is_open.desc(), alerts.c.resolved_at.desc().nulls_last(), alerts.c.raised_at.desc(), alerts.c.alert_id)
    query = alerts_now().where(*_alike(like), _of_part(like.part)).order_by(*order).limit(1).with_for_update(of=alerts)
    return connection.execute(query).one_or_none()


def _alike(like: Alert) -> tuple[Any, ...]:
    return (
        alerts.c.tenant == like.segment.tenant,
        alerts.c.service == like.segment.service,
        alerts.c.environment == like.segment.environment,
        alerts.c.evaluator == like.evaluator,
        alerts.c.judge_version == like.judge_version,
    )


def _to_transition(row: Row[Any]) -> Transition:
    return Transition(
        at=row.at,
        actor=row.actor,
        before=AlertState(row.from_state) if row.from_state else None,
        after=AlertState(row.to_state),
        note=row.note,
        evidence=row.evidence,
    )
