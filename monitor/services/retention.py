"""Taking away what is kept no longer, by the database's time; a clock that is wrong must not empty a ledger."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from monitor.config.retention import RetentionSettings
from monitor.domain.errors import ClocksDiffer, LedgerUnavailable
from monitor.storage.engine import LedgerEngine
from monitor.storage.expirations import Keeping
from monitor.storage.retention import Expired, database_time, expire
from monitor.storage.weighing import weigh_rollups

logger = logging.getLogger(__name__)

_FARTHEST = timedelta(days=1)
_SOON_SECONDS = 60.0


def keeping(settings: RetentionSettings) -> dict[str, Keeping]:
    """The settings as storage has them."""
    payloads = {one.tenant: one.payload_days for one in settings.tenants if one.payload_days is not None}
    verdicts = {one.tenant: one.verdict_days for one in settings.tenants if one.verdict_days is not None}
    return {
        "payloads": Keeping(days=settings.payload_days, tenants=payloads),
        "verdicts": Keeping(days=settings.verdict_days, tenants=verdicts),
        "dead_letters": Keeping(days=settings.dead_letter_days),
    }


def agreed_time(engine: LedgerEngine, *, clock: Callable[[], datetime]) -> datetime:
    """The database's time, if this process would say the same but for a day.

    Args:
        engine: of the ledger.
        clock: what this process holds for the time, aware.

    Raises:
        ClocksDiffer: one of the two is wrong by more than a day.
        LedgerUnavailable: Postgres is away.
    """
    here, there = clock(), database_time(engine)
    if abs(here - there) > _FARTHEST:
        raise ClocksDiffer(
            f"it is {there:%Y-%m-%d %H:%M} UTC in Postgres and {here:%Y-%m-%d %H:%M} UTC here: nothing is taken away"
            " until the clocks agree"
        )
    return there


def retain(
    engine: LedgerEngine, settings: RetentionSettings, *, now: datetime, dry_run: bool = False
) -> Expired | None:
    """Take away what is kept no longer; None when another process is at it.

    Raises:
        LedgerUnavailable: Postgres is away; what is done is done.
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
        clock: the time by which it goes, aware (`agreed_time`).
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
        soon = _SOON_SECONDS
        while True:
            if self._once():
                soon, wait = _SOON_SECONDS, self._settings.every_seconds
            else:
                # What somebody holds is soon let go; what stays wrong is told more and more seldom.
                soon, wait = soon * 2, min(soon, self._settings.every_seconds)
            if self._stop.wait(wait):
                return

    def _once(self) -> bool:
        """Whether all is done, for this time."""
        try:
            gone = retain(self._engine, self._settings, now=self._clock())
        except LedgerUnavailable as error:
            logger.warning("retention waits", extra={"error": str(error)})
        except ClocksDiffer as error:
            logger.error("retention refuses", extra={"error": str(error)})  # noqa: TRY400 - the message says all
        except Exception:
            # The worker's own work goes on beside this: what is not foreseen here must not end it.
            logger.exception("retention failed")
        else:
            if gone and (gone.partitions or gone.given_up or any(gone.rows.values())):
                said = {"partitions": gone.partitions, "rows": gone.rows, "given_up": gone.given_up}
                logger.info("retention", extra=said)
            return not (gone and gone.waiting)
        return False
