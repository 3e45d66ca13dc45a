"""The ledger, as commands open it."""

from collections.abc import Iterator
from contextlib import contextmanager

from monitor.config import load_settings
from monitor.storage.engine import LedgerEngine, create_ledger_engine


@contextmanager
def ledger() -> Iterator[LedgerEngine]:
    """One connection, for as long as the command needs it."""
    engine = create_ledger_engine(load_settings().postgres, application_name="groundwatch-cli", pool_size=1)
    try:
        yield engine
    finally:
        engine.dispose()
