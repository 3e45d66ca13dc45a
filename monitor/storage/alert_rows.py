"""Rows of alerts: how they stand, and one place where a change is written with its transition and its deliveries."""

from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, Select, and_, func, insert, null, select, update
from sqlalchemy.sql.elements import ColumnElement

from monitor.domain.alert import Alarm, Alert, AlertState, Direction, Severity
from monitor.domain.confirmation import Confirmation
from monitor.domain.explanation import Explanation
from monitor.domain.lifecycle import Change, Standing
from monitor.domain.trace import Segment, Slice
from monitor.storage.outbox import enqueue
from monitor.storage.silences import silenced_now
from monitor.storage.storable import storable
from monitor.storage.tables import alert_transitions, alerts

_EXPLANATION: Final = TypeAdapter(Explanation)
_CONFIRMATION: Final = TypeAdapter(Confirmation)

DRIFT = "drift"
"""The actor of what the detector did."""


def alerts_now() -> Select[Any]:
    """All alerts, each with the database's time, `now`, and whether a silence covers it, `silenced`."""
    return select(alerts, func.now().label("now"), silenced_now(alerts).label("silenced"))


def standing_of(row: Row[Any]) -> Standing:
    """How the alert in this row of `alerts` stands."""
    return Standing(
        state=AlertState(row.state),
        since=row.state_since,
        heard=AlertState(row.heard) if row.heard else None,
        told_at=row.told_at,
        reopened=row.reopened,
        damped=row.damped,
        worse=row.worse,
    )


def standing_columns(standing: Standing) -> dict[str, Any]:
    """The columns of `alerts` that say how it stands."""
    return {
        "state": standing.state.value,
        "state_since": standing.since,
        "heard": standing.heard.value if standing.heard else None,
        "told_at": standing.told_at,
        "reopened": standing.reopened,
        "damped": standing.damped,
        "worse": standing.worse,
    }


def apply_change(connection: Connection, row: Row[Any], change: Change, **values: Any) -> Alert:
    """Write how an alert stands now, with other columns that changed, and put what is to be told into the outbox.

    Args:
        connection: in the transaction that locked the row.
        row: of `alerts_now`.
        change: what became of it.
        values: further columns of `alerts`.
    """
    kept = update(alerts).where(alerts.c.alert_id == row.alert_id)
    changed = connection.execute(kept.values(**standing_columns(change.standing), **values).returning(alerts)).one()
    alert = to_alert(changed)
    enqueue(connection, alert, told=change.told, silenced=row.silenced)
    return alert


def note(
    connection: Connection,
    alert: Alert,
    *,
    before: AlertState | None,
    at: datetime,
    actor: str,
    text: str = "",
    evidence: float | None = None,
) -> None:
    """Keep how the alert came from `before` to its state; the same state twice is an event that did not change it."""
    connection.execute(
        insert(alert_transitions).values(
            alert_id=alert.alert_id,
            from_state=before.value if before else None,
            to_state=alert.state.value,
            at=at,
            actor=storable(actor),
            note=storable(text),
            evidence=evidence,
        )
    )


def alarm_columns(alarm: Alarm) -> dict[str, Any]:
    """The columns of `alerts` that say what the detector saw."""
    return {
        "direction": alarm.direction.value,
        "event_time": alarm.event_time,
        "change_at": alarm.change_at,
        "change_earliest": alarm.change_earliest,
        "change_latest": alarm.change_latest,
        "evidence": alarm.evidence,
        "rate_before": alarm.rate_before,
        "rate_after": alarm.rate_after,
        "verdicts_seen": alarm.verdicts_seen,
        "delay_verdicts": alarm.delay_verdicts,
    }


def part_columns(part: Slice | None) -> dict[str, Any]:
    """The columns of `alerts` that say which slice it is about."""
    return {"dimension": part.dimension if part else None, "value": part.value if part else None}


def known_columns(alert: Alert) -> dict[str, Any]:
    """The columns of `alerts` that say what was found out about it."""
    # SQL's null, not JSON's: what was never asked is not there.
    said = null() if alert.confirmation is None else _CONFIRMATION.dump_python(alert.confirmation, mode="json")
    return {"explanation": _EXPLANATION.dump_python(alert.explanation, mode="json"), "confirmation": said}


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
        severity=Severity(row.severity),
        part=None if row.dimension is None else Slice(dimension=row.dimension, value=row.value),
        reopened=row.reopened,
        explanation=_EXPLANATION.validate_python(row.explanation or {}),
        confirmation=None if row.confirmation is None else _CONFIRMATION.validate_python(row.confirmation),
    )


def of_part(part: Slice | None) -> ColumnElement[bool]:
    """Whether an alert is about this slice; about the whole segment where there is none."""
    if part is None:
        return alerts.c.dimension.is_(None)
    return and_(alerts.c.dimension == part.dimension, alerts.c.value == part.value)


def alike(like: Alert) -> tuple[ColumnElement[bool], ...]:
    """Whether an alert is of the same segment, evaluator and judge version as this one."""
    return (
        alerts.c.tenant == like.segment.tenant,
        alerts.c.service == like.segment.service,
        alerts.c.environment == like.segment.environment,
        alerts.c.evaluator == like.evaluator,
        alerts.c.judge_version == like.judge_version,
    )
