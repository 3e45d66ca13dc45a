"""`alert.v1`: what subscribers get."""

from typing import Any

from pydantic import TypeAdapter

from monitor.domain.alert import Alert, Notification

_ALERT = TypeAdapter(Alert)


def alert_to_json(
    alert: Alert, *, notification: Notification = Notification.STATE, silenced: bool = False
) -> dict[str, Any]:
    """`alert.v1` as a JSON value: why it is sent, and whether a silence keeps it from subscriptions."""
    # A recovery ends an alert and is none: it is never sent.
    message = _ALERT.dump_python(alert, mode="json", exclude={"alarm": {"recovers"}})
    return {"schema": "alert.v1", **message, "notification": notification.value, "silenced": silenced}
