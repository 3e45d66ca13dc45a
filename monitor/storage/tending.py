"""Time passing for alerts: each that something falls due for is changed in a transaction of its own.

Workers that tend at once share the work: a row that another one holds is passed over, and by the time it is free
nothing is due for it any more.
"""

from sqlalchemy import Engine, text

from monitor.domain.alert import Alert, AlertState
from monitor.domain.lifecycle import Change, LifeCycle, tended
from monitor.storage.alert_rows import alerts_now, apply_change, note, standing_of
from monitor.storage.engine import snapshot, transaction
from monitor.storage.tables import UNSETTLED, alerts

TENDER = "alert worker"
"""The actor of what time brought about."""


def due_alerts(engine: Engine, rules: LifeCycle) -> list[str]:
    """Ids of the alerts that something has fallen due for, by the database's clock.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    query = alerts_now().where(text(f"({UNSETTLED})")).order_by(alerts.c.alert_id)
    with snapshot(engine) as connection:
        return [
            row.alert_id
            for row in connection.execute(query)
            if tended(standing_of(row), now=row.now, silenced=row.silenced, rules=rules)
        ]


def tend_alert(engine: Engine, alert_id: str, rules: LifeCycle) -> tuple[Alert, Change] | None:
    """Do for one alert what has fallen due, with its deliveries; None when nothing has, or another is at it.

    Raises:
        LedgerUnavailable: nothing was done.
    """
    query = alerts_now().where(alerts.c.alert_id == alert_id).with_for_update(of=alerts, skip_locked=True)
    with transaction(engine) as connection:
        row = connection.execute(query).one_or_none()
        if row is None:
            return None
        change = tended(standing_of(row), now=row.now, silenced=row.silenced, rules=rules)
        if change is None:
            return None
        alert = apply_change(connection, row, change)
        if change.before is AlertState.PENDING:
            note(connection, alert, before=change.before, at=row.now, actor=TENDER)
        return alert, change
