"""Bringing the ledger's tables up to what this release expects."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from monitor.resources import resource
from monitor.storage.engine import driver_errors, ledger_url

_CONNECT_TIMEOUT_SECONDS = 10
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


def upgrade(url: str) -> MigrationState:
    """Apply all pending migrations in one transaction; safe to call from many processes at once.

    Raises:
        LedgerUnavailable: Postgres cannot be reached, or a lock could not be had in time. Nothing was changed.
    """
    return _with_connection(url, _upgrade)


def check(url: str) -> MigrationState:
    """Compare the database with this release; changes nothing.

    Raises:
        LedgerUnavailable: Postgres cannot be reached.
    """
    return _with_connection(url, _state)


def downgrade(url: str, revision: str) -> MigrationState:
    """Go back to `revision` (`base` empties the database). Data in dropped tables is lost: for tests and rescue."""

    def back(connection: Connection) -> MigrationState:
        command.downgrade(_config(connection), revision)
        return _state(connection)

    return _with_connection(url, back)


def _with_connection(url: str, work: Callable[[Connection], MigrationState]) -> MigrationState:
    engine = create_engine(
        ledger_url(url),
        poolclass=NullPool,
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_SECONDS, "application_name": "groundwatch migrate"},
    )
    with _alembic, driver_errors(), engine.connect() as connection:
        return work(connection)


def _upgrade(connection: Connection) -> MigrationState:
    before = _state(connection)
    # With nothing to migrate nothing is locked, not even for an instant.
    if before.pending:
        command.upgrade(_config(connection), "head")
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
