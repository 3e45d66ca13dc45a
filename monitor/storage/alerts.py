"""Alerts as they stand, and how they came there. Every change of state puts its deliveries into the outbox."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Connection, Engine, Row, cast, insert, null, select, update
from sqlalchemy.dialects.postgresql import JSONB

from monitor.domain.alert import Alarm, Alert, AlertState, Direction
from monitor.domain.confirmation import Confirmation
from monitor.domain.explanation import Explanation
from monitor.domain.trace import Segment
from monitor.storage.engine import snapshot, transaction
from monitor.storage.outbox import enqueue
from monitor.storage.rows import storable
from monitor.storage.tables import alert_transitions, alerts

_EXPLANATION: Final = TypeAdapter(Explanation)
_CONFIRMATION: Final = TypeAdapter(Confirmation)


def raise_alert(connection: Connection, alert: Alert) -> None:
    """Keep a new alert with its first transition and its deliveries, in the caller's transaction."""
    alarm = alert.alarm
    connection.execute(
        insert(alerts).values(
            alert_id=alert.alert_id,
            tenant=alert.segment.tenant,
            service=alert.segment.service,
            environment=alert.segment.environment,
            evaluator=alert.evaluator,
            judge_version=alert.judge_version,
            state=alert.state.value,
            direction=alarm.direction.value,
            event_time=alarm.event_time,
            change_at=alarm.change_at,
            change_earliest=alarm.change_earliest,
            change_latest=alarm.change_latest,
            evidence=alarm.evidence,
            rate_before=alarm.rate_before,
            rate_after=alarm.rate_after,
            verdicts_seen=alarm.verdicts_seen,
            delay_verdicts=alarm.delay_verdicts,
            average_run_length=alert.average_run_length,
            raised_at=alert.raised_at,
            explanation=_EXPLANATION.dump_python(alert.explanation, mode="json"),
            confirmation=_as_json(alert.confirmation),
        )
    )
    _note(connection, alert, before=None, at=alert.raised_at, actor="drift", note="")


def change_state(
    engine: Engine, alert_id: str, state: AlertState, *, at: datetime, actor: str, note: str = ""
) -> Alert | None:
    """Move an alert to `state` and enqueue its deliveries; nothing happens when it is there already.

    A resolved alert stays resolved: what rises again is another alert.

    Returns:
        The alert as it now stands; None when there is none with this id.

    Raises:
        LedgerUnavailable: nothing was changed.
    """
    with transaction(engine) as connection:
        found = connection.execute(select(alerts).where(alerts.c.alert_id == alert_id).with_for_update()).one_or_none()
        if found is None:
            return None
        if found.state in {state, AlertState.RESOLVED}:
            return to_alert(found)
        changed = connection.execute(
            update(alerts).where(alerts.c.alert_id == alert_id).values(state=state.value).returning(alerts)
        ).one()
        alert = to_alert(changed)
        _note(connection, alert, before=found.state, at=at, actor=actor, note=note)
        return alert


def resolve_recovered(connection: Connection, like: Alert, *, at: datetime, note: str) -> list[Alert]:
    """Resolve the open alerts of the same segment, evaluator and judge version, in the caller's transaction.

    Args:
        connection: in a transaction.
        like: whose segment, evaluator and judge version are meant.
        at: when the rate was back.
        note: what the transition says.
    """
    open_ones = (
        alerts.c.tenant == like.segment.tenant,
        alerts.c.service == like.segment.service,
        alerts.c.environment == like.segment.environment,
        alerts.c.evaluator == like.evaluator,
        alerts.c.judge_version == like.judge_version,
        alerts.c.state != AlertState.RESOLVED.value,
    )
    found = connection.execute(select(alerts).where(*open_ones).order_by(alerts.c.alert_id).with_for_update()).all()
    resolved = [replace(to_alert(row), state=AlertState.RESOLVED) for row in found]
    for row, alert in zip(found, resolved, strict=True):
        connection.execute(
            update(alerts).where(alerts.c.alert_id == alert.alert_id).values(state=AlertState.RESOLVED.value)
        )
        _note(connection, alert, before=row.state, at=at, actor="drift", note=note)
    return resolved


def keep_confirmation(
    connection: Connection, alert_id: str, confirmation: Confirmation, *, at: datetime, note: str
) -> Alert:
    """Keep what the stronger judge says of an alert, and tell of it, in the caller's transaction."""
    row = connection.execute(
        update(alerts)
        .where(alerts.c.alert_id == alert_id)
        .values(confirmation=_as_json(confirmation))
        .returning(alerts)
    ).one()
    alert = to_alert(row)
    _note(connection, alert, before=row.state, at=at, actor="drift", note=note)
    return alert


def _as_json(confirmation: Confirmation | None) -> Any:
    # SQL's null, not JSON's: what was never asked is not there.
    return null() if confirmation is None else _CONFIRMATION.dump_python(confirmation, mode="json")


def unexplained(engine: Engine, *, looks: int) -> list[Alert]:
    """Open alerts without a cause that have been looked at less often than this, the oldest first."""
    said = alerts.c.explanation
    query = (
        select(alerts)
        .where(alerts.c.state != AlertState.RESOLVED.value, said["causes"] == cast([], JSONB))
        .where(said["looks"].as_integer() < looks)
        .order_by(alerts.c.raised_at, alerts.c.alert_id)
    )
    with snapshot(engine) as connection:
        return [to_alert(row) for row in connection.execute(query)]


def keep_explanation(
    engine: Engine, alert: Alert, explanation: Explanation, *, at: datetime, note: str
) -> Alert | None:
    """Keep what a further look found; where it found causes, all who hear of the alert hear of them.

    Returns:
        The alert as it now stands; None where nothing was found, or another process has looked meanwhile.

    Raises:
        LedgerUnavailable: nothing was kept.
    """
    looked = alerts.c.explanation["looks"].as_integer() == alert.explanation.looks
    with transaction(engine) as connection:
        row = connection.execute(
            update(alerts)
            .where(alerts.c.alert_id == alert.alert_id, looked)
            .values(explanation=_EXPLANATION.dump_python(explanation, mode="json"))
            .returning(alerts)
        ).one_or_none()
        if row is None or not explanation.causes:
            return None
        explained = to_alert(row)
        _note(connection, explained, before=row.state, at=at, actor="drift", note=note)
        return explained


def find_alerts(engine: Engine, *, states: Sequence[AlertState] = tuple(AlertState), limit: int = 1000) -> list[Alert]:
    """The newest alerts in one of these states, newest first."""
    query = (
        select(alerts)
        .where(alerts.c.state.in_([state.value for state in states]))
        .order_by(alerts.c.raised_at.desc(), alerts.c.alert_id)
        .limit(limit)
    )
    with snapshot(engine) as connection:
        return [to_alert(row) for row in connection.execute(query)]


def find_alert(engine: Engine, alert_id: str) -> Alert | None:
    """The alert with this id, as it stands; None when there is none."""
    with snapshot(engine) as connection:
        row = connection.execute(select(alerts).where(alerts.c.alert_id == alert_id)).one_or_none()
    return None if row is None else to_alert(row)


def to_alert(row: Row[Any]) -> Alert:
    """A row of `alerts` as the domain knows it."""
    return Alert(
        alert_id=row.alert_id,
        segment=Segment(tenant=row.tenant, service=row.service, environment=row.environment),
        evaluator=row.evaluator,
        judge_version=row.judge_version,
        alarm=Alarm(
            event_time=row.event_time,
            change_at=row.change_at,
            change_earliest=row.change_earliest,
            change_latest=row.change_latest,
            direction=Direction(row.direction),
            evidence=row.evidence,
            rate_before=row.rate_before,
            rate_after=row.rate_after,
            verdicts_seen=row.verdicts_seen,
            delay_verdicts=row.delay_verdicts,
        ),
        state=AlertState(row.state),
        raised_at=row.raised_at,
        average_run_length=row.average_run_length,
        explanation=_EXPLANATION.validate_python(row.explanation or {}),
        confirmation=None if row.confirmation is None else _CONFIRMATION.validate_python(row.confirmation),
    )


def _note(connection: Connection, alert: Alert, *, before: str | None, at: datetime, actor: str, note: str) -> None:
    connection.execute(
        insert(alert_transitions).values(
            alert_id=alert.alert_id,
            from_state=before,
            to_state=alert.state.value,
            at=at,
            actor=storable(actor),
            note=storable(note),
        )
    )
    enqueue(connection, alert)
