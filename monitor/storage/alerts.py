"""Alerts as they stand, and how they came there. Every change of state puts its deliveries into the outbox."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, insert, select

from monitor.domain.alert import Alert, AlertState
from monitor.domain.lifecycle import moved, opened
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
    standing_columns,
    standing_of,
    to_alert,
)
from monitor.storage.engine import snapshot, transaction
from monitor.storage.outbox import enqueue
from monitor.storage.silences import is_silenced
from monitor.storage.tables import alert_transitions, alerts


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
    query = alerts_now().where(*alike(like), of_part(like.part), alerts.c.state != AlertState.RESOLVED.value)
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


def _to_transition(row: Row[Any]) -> Transition:
    return Transition(
        at=row.at,
        actor=row.actor,
        before=AlertState(row.from_state) if row.from_state else None,
        after=AlertState(row.to_state),
        note=row.note,
        evidence=row.evidence,
    )
