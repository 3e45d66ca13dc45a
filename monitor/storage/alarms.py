"""What an alarm becomes: an alert of its own, or more of one that there is. In the transaction that folded it."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from monitor.domain.alert import Alert, AlertState, Severity
from monitor.domain.confirmation import ConfirmationState
from monitor.domain.lifecycle import Change, LifeCycle, Rise, reopened, rise_of, severity_of, worsened
from monitor.domain.trace import Slice
from monitor.storage.alert_rows import (
    DRIFT,
    alarm_columns,
    alerts_now,
    alike,
    apply_change,
    known_columns,
    note,
    of_part,
    part_columns,
    standing_of,
    to_alert,
)
from monitor.storage.alerts import raise_alert
from monitor.storage.tables import alerts, confirmation_samples, slice_rollups

_SEGMENT = ("tenant", "service", "environment", "evaluator", "judge_version")


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


def _open_beside(connection: Connection, like: Alert) -> Row[Any] | None:
    """An open alert of the same segment that this alarm belongs to, though it is not of the same part.

    A whole and its slices are one thing; so are slices of different dimensions, where both have traffic. Two values of
    one dimension share none: each has an alert of its own.
    """
    query = alerts_now().where(*alike(like), alerts.c.state != AlertState.RESOLVED.value)
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


def _last_alike(connection: Connection, like: Alert) -> Row[Any] | None:
    is_open = alerts.c.state != AlertState.RESOLVED.value
    order = (is_open.desc(), alerts.c.resolved_at.desc().nulls_last(), alerts.c.raised_at.desc(), alerts.c.alert_id)
    query = alerts_now().where(*alike(like), of_part(like.part)).order_by(*order).limit(1).with_for_update(of=alerts)
    return connection.execute(query).one_or_none()
