"""Alembic's environment: one migrator at a time, and none that makes writers wait for long.

`monitor.storage.migrate` runs this with an open connection; there is no offline mode.
"""

from alembic import context
from sqlalchemy import Connection, text

from monitor.storage.access import covered_since, protect, release
from monitor.storage.tables import metadata

# Any number will do, as long as nothing else in the database takes the same one.
ADVISORY_LOCK = 0x67726F756E64
WAIT_FOR_OTHER_MIGRATOR = "120s"
# A migration that cannot have its lock at once gives up, instead of queueing writers behind itself.
LOCK_TIMEOUT = "4s"
STATEMENT_TIMEOUT = "60s"


def run(connection: Connection) -> None:
    """Migrate inside one transaction: all or nothing."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=False,
        compare_server_default=True,
    )
    with context.begin_transaction():
        connection.execute(text(f"set local lock_timeout = '{WAIT_FOR_OTHER_MIGRATOR}'"))
        connection.execute(text("set local statement_timeout = 0"))
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.execute(text(f"set local lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text(f"set local statement_timeout = '{STATEMENT_TIMEOUT}'"))
        _migrate(connection)


def _migrate(connection: Connection) -> None:
    """Migrate, then cover what is new."""
    release(connection)
    context.run_migrations()
    if covered_since(connection):
        protect(connection)


run(context.config.attributes["connection"])
