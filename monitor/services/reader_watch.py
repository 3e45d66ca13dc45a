"""Readers are held to their time, whatever they set their own `statement_timeout` to."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from monitor.domain.errors import LedgerUnavailable
from monitor.services.stopping import rest
from monitor.storage.access_readers import stop_overlong
from monitor.storage.engine import LedgerEngine

logger = logging.getLogger(__name__)


class ReaderWatch:
    """Ends queries of readers that run too long. Several may watch one ledger.

    Args:
        engine: of the ledger, with the rights of its owner.
        pace: seconds between two looks; a query may run so much longer than it should, and one that does not heed
            being cancelled three times as long.
    """

    def __init__(self, engine: LedgerEngine, *, pace: float) -> None:
        self._engine = engine
        self._pace = pace

    async def run(self, stop: asyncio.Event) -> None:
        """Look until told to stop. While Postgres is away nothing runs that could run too long."""
        with ThreadPoolExecutor(1, thread_name_prefix="readers") as thread:
            while not stop.is_set():
                try:
                    await asyncio.get_running_loop().run_in_executor(thread, self.step)
                except LedgerUnavailable as error:
                    logger.warning("readers' queries could not be watched", extra={"error": str(error)})
                except Exception:
                    # Deliveries go on beside this: what is not foreseen here must not end them.
                    logger.exception("readers' queries could not be watched")
                await rest(stop, self._pace)

    def step(self) -> int:
        """End what runs too long now; how many queries that were.

        Raises:
            LedgerUnavailable: it could not be looked at.
        """
        ended = stop_overlong(self._engine, pace=self._pace)
        for reader in ended:
            logger.info("a reader's query ran too long and was ended", extra={"reader": reader})
        return len(ended)
