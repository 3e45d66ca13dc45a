"""Connections to the ledger, and the one place where the driver's errors become groundwatch's.

Every wait has a deadline: connecting, a statement (on the server), a silent network (on the client's socket).
"""

import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import errors as pg
from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from monitor.config import PostgresSettings
from monitor.domain.errors import InvalidMessage, InvalidSettings, LedgerUnavailable

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

LedgerEngine: TypeAlias = Engine
"""A pool of connections, by a name for rooms where SQLAlchemy is not imported."""

# What a process may meet while Postgres restarts, fails over, is full, or is not migrated yet. All pass with
# time and an operator's hand, none is the data's fault: the work waits and is tried again.
_AWAY = (
    pg.OperationalError,
    pg.InterfaceError,
    pg.ReadOnlySqlTransaction,
    pg.UndefinedTable,
    pg.UndefinedColumn,
    pg.UndefinedFunction,
    pg.InsufficientPrivilege,
)
_CONFLICT = (pg.DeadlockDetected, pg.SerializationFailure)
_CONFLICT_ATTEMPTS = 6
# A lock, or an end, that did not come in time; a partition that is being detached.
_HELD = (pg.LockNotAvailable, pg.QueryCanceled, pg.ObjectNotInPrerequisiteState)
# The data's own fault: a value out of range, a broken constraint, a key too long for its index.
_REFUSED = (pg.DataError, pg.IntegrityError, pg.ProgramLimitExceeded)


class LedgerConflict(LedgerUnavailable):
    """Two transactions stood in each other's way; the same work succeeds when tried again."""


class LedgerBusy(LedgerUnavailable):
    """Somebody else holds what is needed, and did not let go of it in time."""


def ledger_url(url: str, *, setting: str = "postgres.url") -> URL:
    """A libpq URL as SQLAlchemy wants it, with psycopg 3 as the driver.

    Raises:
        InvalidSettings: it is no URL of a Postgres database; names the setting that it is from.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidSettings(f"{setting}: not a URL such as postgresql://user@host:5432/database") from None
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise InvalidSettings(f"{setting}: {parsed.drivername} is not Postgres; it begins with postgresql://")
    return parsed.set(drivername="postgresql+psycopg")


def create_ledger_engine(
    settings: PostgresSettings, *, application_name: str = "groundwatch", pool_size: int = 4
) -> Engine:
    """A pool of at most `pool_size` connections; it connects lazily, so Postgres may still be away.

    Args:
        settings: where, and how long to wait.
        application_name: what operators see in `pg_stat_activity`.
        pool_size: one is enough for a worker that writes batch after batch.
    """
    statement_ms = math.ceil(settings.statement_timeout_seconds * 1000)
    connect_seconds = math.ceil(settings.connect_timeout_seconds)
    return create_engine(
        ledger_url(settings.url.get_secret_value()),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=settings.connect_timeout_seconds + settings.statement_timeout_seconds,
        pool_pre_ping=True,
        connect_args={
            # libpq takes whole seconds and treats 1 as 2.
            "connect_timeout": max(2, connect_seconds),
            "application_name": application_name,
            "options": f"-c statement_timeout={statement_ms} -c timezone=UTC"
            f" -c idle_in_transaction_session_timeout={statement_ms + 30_000}",
            # A host that vanished without a word must not hold a worker for TCP's two hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": statement_ms + 5000,
        },
    )


class LedgerRefused(InvalidMessage):
    """Postgres will not store this value however often it is tried."""


@contextmanager
def driver_errors() -> Iterator[None]:
    """Turn the driver's errors into groundwatch's; a bug in a statement passes through.

    Raises:
        LedgerConflict: a deadlock or a serialization failure.
        LedgerBusy: a lock, or the statement's end, was not to be had in time.
        LedgerRefused: the data breaks a type, a limit or a constraint.
        LedgerUnavailable: it cannot be reached, is shutting down, timed out, or is not migrated yet.
    """
    try:
        yield
    except DBAPIError as error:
        _translate(error.orig, error)
        raise
    except PoolTimeout as error:
        raise LedgerUnavailable("no connection to Postgres came free in time") from error
    except psycopg.Error as error:
        _translate(error, error)
        raise


def _translate(cause: BaseException | None, error: Exception) -> None:
    if isinstance(cause, _CONFLICT):
        raise LedgerConflict(_first_line(cause)) from error
    if isinstance(cause, _HELD):
        raise LedgerBusy(_first_line(cause)) from error
    if isinstance(cause, _REFUSED):
        raise LedgerRefused(_first_line(cause)) from error
    if isinstance(cause, pg.UndefinedTable | pg.UndefinedColumn | pg.UndefinedFunction):
        raise LedgerUnavailable(f"{_first_line(cause)}; run `groundwatch migrate`") from error
    if isinstance(cause, _AWAY):
        raise LedgerUnavailable(_first_line(cause)) from error


def _first_line(cause: BaseException) -> str:
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One read-committed transaction: committed at the end, rolled back by any exception."""
    with driver_errors(), engine.begin() as connection:
        yield connection


def driver_cursor(connection: Connection) -> psycopg.Cursor[Any]:
    """A cursor of the driver's own, in the connection's transaction: for COPY, and for arrays."""
    # SQLAlchemy keeps the pool, the transaction and the clean-up.
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver.cursor()


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """One read-only transaction in which every statement sees the same instant."""
    with driver_errors(), engine.connect() as connection:
        calm = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with calm.begin():
            yield calm


def retry_conflicts(work: Callable[[], _Result]) -> _Result:
    """Do `work`, a whole transaction, again when Postgres chose it as a deadlock's victim.

    Raises:
        LedgerConflict: it lost six times in a row.
    """
    for attempt in range(1, _CONFLICT_ATTEMPTS):
        try:
            return work()
        except LedgerConflict as conflict:
            logger.info("transaction tried again", extra={"attempt": attempt, "conflict": str(conflict)})
            time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - jitter, not a secret
    return work()
