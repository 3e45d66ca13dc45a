"""The rules of an alert's life, as the settings give them."""

from monitor.config import AlertSettings, DriftSettings
from monitor.domain.lifecycle import LifeCycle


def life_cycle(drift: DriftSettings, alerts: AlertSettings) -> LifeCycle:
    """What both workers that change alerts go by."""
    return LifeCycle(
        pending=alerts.pending_seconds,
        flap_window=alerts.flap_window_seconds,
        flap_reopenings=alerts.flap_reopenings,
        renotify=alerts.renotify_seconds,
        critical_ratio=drift.critical_ratio,
    )
