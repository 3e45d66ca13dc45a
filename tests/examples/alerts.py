"""An alert for tests, and those who hear of it."""

from datetime import timedelta

from pydantic import SecretStr
from sqlalchemy import Engine

from monitor.alerts.sealing import Destination, Sealer
from monitor.alerts.services import is_service
from monitor.domain.alert import Alarm, Alert, AlertState, Direction, Severity
from monitor.domain.lifecycle import LifeCycle
from monitor.storage.subscriptions import Channel, Subscription, subscribe
from tests.examples.assessments import NOON, VERSION, trace

RULES = LifeCycle(pending=0, flap_window=3600, flap_reopenings=2, renotify=14_400, critical_ratio=2)
KEYS = (SecretStr("c2VhbHMgd2hhdCB0ZXN0cyBzdWJzY3JpYmUgdG8gISE="),)


def subscribed(
    engine: Engine,
    *,
    url: str,
    tenant: str = "city",
    service: str | None = None,
    environment: str | None = None,
    secret: str | None = None,
    least_severity: Severity = Severity.WARNING,
    cause: str | None = None,
) -> Subscription:
    """A webhook in the ledger, sealed with the first of `KEYS`."""
    destination = Destination(url=url, secret=secret)
    sealed = Sealer(KEYS).seal(destination)
    return subscribe(
        engine,
        tenant=tenant,
        shown=destination.shown,
        sealed=sealed,
        service=service,
        environment=environment,
        least_severity=least_severity,
        cause=cause,
        channel=Channel.SERVICE if is_service(url) else Channel.WEBHOOK,
    )


def alert(alert_id: str = "a-1") -> Alert:
    """A rise of the segment that the examples of assessments are of, as the drift worker raises it."""
    alarm = Alarm(
        event_time=NOON + timedelta(minutes=1),
        change_at=NOON,
        change_earliest=NOON,
        change_latest=NOON + timedelta(minutes=1),
        direction=Direction.RISE,
        evidence=10.5,
        rate_before=0.1,
        rate_after=0.3,
        verdicts_seen=3000,
        delay_verdicts=41,
    )
    return Alert(
        alert_id=alert_id,
        segment=trace("any").segment,
        evaluator="faithfulness",
        judge_version=VERSION,
        alarm=alarm,
        state=AlertState.FIRING,
        raised_at=NOON + timedelta(minutes=2),
        average_run_length=20_000.0,
        severity=Severity.CRITICAL,
    )
