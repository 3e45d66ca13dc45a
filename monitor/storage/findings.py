"""What is found out about an alert after it was raised: causes, and a stronger judge's word."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, Engine, Row, cast, select
from sqlalchemy.dialects.postgresql import JSONB

from monitor.domain.alert import Alert, AlertState
from monitor.domain.confirmation import Confirmation
from monitor.domain.explanation import Explanation
from monitor.domain.lifecycle import Change, learned
from monitor.storage.alert_rows import DRIFT, alerts_now, apply_change, known_columns, note, standing_of, to_alert
from monitor.storage.engine import retry_conflicts, snapshot, transaction
from monitor.storage.tables import alerts


def unexplained(engine: Engine, *, looks: int) -> list[Alert]:
    """Open alerts without a cause that have been looked at less often than this, the oldest first.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
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
    engine: Engine, alert: Alert, explanation: Explanation, *, at: datetime, text: str
) -> Alert | None:
    """Keep what a further look found; where it found causes, all who hear of the alert hear of them.

    Returns:
        The alert as it now stands; None where nothing was found, or another process has looked meanwhile.

    Raises:
        LedgerUnavailable: nothing was kept.
    """

    def work() -> Alert | None:
        with transaction(engine) as connection:
            row = _locked(connection, alert.alert_id)
            if row is None or to_alert(row).explanation.looks != alert.explanation.looks:
                return None
            known = replace(to_alert(row), explanation=explanation)
            if explanation.causes:
                return _keep(connection, row, known, at=at, text=text)
            apply_change(connection, row, Change.none(standing_of(row)), **known_columns(known))
            return None

    return retry_conflicts(work)


def keep_confirmation(
    connection: Connection, alert_id: str, confirmation: Confirmation, *, at: datetime, text: str
) -> Alert | None:
    """Keep what the stronger judge says of an alert and tell of it, in the caller's transaction; None without one."""
    row = _locked(connection, alert_id)
    if row is None:
        return None
    return _keep(connection, row, replace(to_alert(row), confirmation=confirmation), at=at, text=text)


def _locked(connection: Connection, alert_id: str) -> Row[tuple[object, ...]] | None:
    query = alerts_now().where(alerts.c.alert_id == alert_id).with_for_update(of=alerts)
    return connection.execute(query).one_or_none()


def _keep(connection: Connection, row: Row[tuple[object, ...]], known: Alert, *, at: datetime, text: str) -> Alert:
    change = learned(standing_of(row), now=row.now, silenced=row.silenced)
    alert = apply_change(connection, row, change, **known_columns(known))
    note(connection, alert, before=change.before, at=at, actor=DRIFT, text=text)
    return alert
