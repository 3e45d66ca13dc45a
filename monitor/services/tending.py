"""The alert worker's clockwork: alerts fire after their time, are told of again, and of what a silence withheld."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from monitor.domain.alert import AlertState, Notification
from monitor.domain.errors import LedgerUnavailable
from monitor.domain.lifecycle import LifeCycle
from monitor.services.stopping import rest
from monitor.storage.engine import LedgerEngine
from monitor.storage.tending import due_alerts, tend_alert
from monitor.telemetry.setup import Telemetry

logger = logging.getLogger(__name__)


class AlertTending:
    """Looks after open alerts. Several may work on one ledger: each effect happens once.

    Args:
        engine: of the ledger.
        rules: of the life cycle.
        telemetry: told of alerts that began to fire, once that is durable.
        pace: seconds between two looks.
    """

    def __init__(self, engine: LedgerEngine, rules: LifeCycle, telemetry: Telemetry, *, pace: float) -> None:
        self._engine = engine
        self._rules = rules
        self._telemetry = telemetry
        self._pace = pace

    async def run(self, stop: asyncio.Event) -> None:
        """Step until told to stop. What is late because Postgres was away is done when it is back."""
        # A thread of its own: name resolution uses the loop's, and a name server that hangs must not stop this.
        with ThreadPoolExecutor(1, thread_name_prefix="tending") as thread:
            while not stop.is_set():
                try:
                    await asyncio.get_running_loop().run_in_executor(thread, self.step)
                except LedgerUnavailable as error:
                    logger.warning("the ledger is away, alerts wait in it", extra={"error": str(error)})
                except Exception:
                    # Deliveries go on beside this: what is not foreseen here must not end them.
                    logger.exception("alerts could not be tended")
                await rest(stop, self._pace)

    def step(self) -> int:
        """Do what is due now; how many alerts there was something to do for.

        Raises:
            LedgerUnavailable: some is done and durable, the rest is not; step again.
        """
        return sum(self._tend_or_log(alert_id) for alert_id in due_alerts(self._engine, self._rules))

    def _tend_or_log(self, alert_id: str) -> bool:
        try:
            return self._tend(alert_id)
        except LedgerUnavailable:
            raise
        except Exception:
            logger.exception("an alert could not be tended", extra={"alert": alert_id})
            return False

    def _tend(self, alert_id: str) -> bool:
        tended = tend_alert(self._engine, alert_id, self._rules)
        if tended is None:
            return False
        alert, change = tended
        if change.before is AlertState.PENDING:
            self._telemetry.alerts.emit(alert, at=change.standing.since)
        reminder = change.told.notification is Notification.REMINDER
        logger.info("reminded of an alert" if reminder else "an alert is told of", extra={"alert": alert_id})
        return True
