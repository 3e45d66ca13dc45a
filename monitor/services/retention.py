"""Taking away what is kept no longer: what the rates need of it is summed up first."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from monitor.config.retention import RetentionSettings
from monitor.domain.errors import LedgerUnavailable
from monitor.storage.engine import LedgerEngine
from monitor.storage.expirations import Keeping
from monitor.storage.retention import Expired, expire
from monitor.storage.weighing import weigh_rollups

logger = logging.getLogger(__name__)


def keeping(settings: RetentionSettings) -> dict[str, Keeping]:
    """The settings as storage has them."""
    payloads = {one.tenant: one.payload_days for one in settings.tenants if one.payload_days is not None}
    verdicts = {one.tenant: one.verdict_days for one in settings.tenants if one.verdict_days is not None}
    return {
        "payloads": Keeping(days=settings.payload_days, tenants=payloads),
        "verdicts": Keeping(days=settings.verdict_days, tenants=verdicts),
    }


def retain(
    engine: LedgerEngine, settings: RetentionSettings, *, now: datetime, dry_run: bool = False
) -> Expired | None:
    """Take away what is kept no longer; None when another process is at it.

    Raises:
        LedgerUnavailable: Postgres is away, or a reader held a day for too long; what is done is done.
    """
    kept = keeping(settings)
    if not dry_run:
        weigh_rollups(engine)
    return expire(engine, kept, now=now, dry_run=dry_run)


class Retaining:
    """Retention at its pace, in a thread of its own, beside a worker's work.

    Args:
        engine: of the ledger, with a connection to spare.
        settings: what is kept for how long.
        clock: the time now, aware.
    """

    def __init__(self, engine: LedgerEngine, settings: RetentionSettings, *, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Begin; the first time is now."""
        self._thread.start()

    def stop(self, *, seconds: float = 5.0) -> None:
        """Let what has begun end, for so long: whatever is left half done is taken up the next time."""
        self._stop.set()
        self._thread.join(timeout=seconds)

    def _run(self) -> None:
        while True:
            try:
                gone = retain(self._engine, self._settings, now=self._clock())
                if gone and (gone.partitions or any(gone.rows.values())):
                    logger.info("retention", extra={"partitions": gone.partitions, "rows": gone.rows})
            except LedgerUnavailable as error:
                logger.warning("retention waits", extra={"error": str(error)})
            except Exception:
                # The worker's own work goes on beside this: what is not foreseen here must not end it.
                logger.exception("retention failed")
            if self._stop.wait(self._settings.every_seconds):
                return
