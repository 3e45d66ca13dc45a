"""Bringing the ledger's tables up to what this release expects."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from monitor.domain.errors import LedgerUnavailable
from monitor.resources import resource
from monitor.storage.engine import driver_errors, ledger_url

_CONNECT_TIMEOUT_SECONDS = 10
# A look changes nothing, whatever a revision might do, and waits for no lock for long.
_LOOK = "-c default_transaction_read_only=on -c statement_timeout=10s"
_LOOK_EVERY_SECONDS = 1.0
# Alembic keeps what it is doing in a module of its own: one migration at a time in a process. Between processes
# the database's advisory lock decides.
_alembic = threading.Lock()


@dataclass(frozen=True, kw_only=True, slots=True)
class MigrationState:
    """Where a database stands.

    Attributes:
        current: its revision; None for an empty database.
        head: the revision that this release expects.
        pending: revisions still to be applied, in order.
        known: whether this release knows the database's revision; False after a newer release migrated it.
    """

    current: str | None
    head: str
    pending: tuple[str, ...]
    known: bool = True

    @property
    def up_to_date(self) -> bool:
        """Whether this release can work: nothing is pending. A newer database is fine, by expand and contract."""
        return not self.pending


def upgrade(url: str, revision: str = "head") -> MigrationState:
    """Apply all pending migrations, up to `revision`, in one transaction; safe to call from many processes at once.

    Raises:
        LedgerUnavailable: Postgres cannot be reached, or a lock could not be had in time. Nothing was changed.
    """
    return _with_connection(url, lambda connection: _upgrade(connection, revision))


def check(url: str) -> MigrationState:
    """Compare the database with this release; changes nothing.

    Raises:
        LedgerUnavailable: Postgres cannot be reached.
    """
    return _with_connection(url, _state, options=_LOOK)


def await_migration(url: str, *, seconds: float) -> MigrationState:
    """Compare the database with this release until nothing is pending, for so long at most; changes nothing.

    Returns:
        How it stands at the end: also where something is still pending.

    Raises:
        LedgerUnavailable: Postgres cannot be reached at the end, either.
    """
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        try:
            state = check(url)
            if state.up_to_date or left <= 0:
                return state
        except LedgerUnavailable:
            if left <= 0:
                raise
        time.sleep(min(_LOOK_EVERY_SECONDS, max(0.0, left)))


def downgrade(url: str, revision: str) -> MigrationState:
    """Go back to `revision` (`base` empties the database). Data in dropped tables is lost: for tests and rescue."""

    def back(connection: Connection) -> MigrationState:
        command.downgrade(_config(connection), revision)
        return _state(connection)

    return _with_connection(url, back)


def _with_connection(url: str, work: Callable[[Connection], MigrationState], *, options: str = "") -> MigrationState:
    engine = create_engine(
        ledger_url(url),
        poolclass=NullPool,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            "application_name": "groundwatch migrate",
            "options": options,
        },
    )
    with _alembic, driver_errors(), engine.connect() as connection:
        return work(connection)


def _upgrade(connection: Connection, revision: str) -> MigrationState:
    before = _state(connection)
    # With nothing to migrate nothing is locked, not even for an instant.
    if before.pending:
        command.upgrade(_config(connection), revision)
    return _state(connection)


def _state(connection: Connection) -> MigrationState:
    script = ScriptDirectory.from_config(_config(connection))
    current = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    head = script.get_current_head()
    assert head is not None, "the migrations folder is empty"
    order = [revision.revision for revision in reversed(list(script.walk_revisions()))]
    if current is not None and current not in order:
        return MigrationState(current=current, head=head, pending=(), known=False)
    done = order.index(current) + 1 if current is not None else 0
    return MigrationState(current=current, head=head, pending=tuple(order[done:]))


def _config(connection: Connection) -> Config:
    config = Config()
    # Alembic reads its options through ConfigParser, where a percent sign is special.
    config.set_main_option("script_location", str(resource("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
