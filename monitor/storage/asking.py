"""One read-only query over `report`, as a reader: limited in time, and streamed, so that no memory fills.

It is streamed by libpq row for row instead of by a cursor on the server: a cursor's time limit is one a fetch, it takes
no EXPLAIN, and the places that errors name would be off by its own words.
"""

import math
import os
import re
import socket
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any, cast

import psycopg
from psycopg import errors as pg
from psycopg.types.string import TextLoader
from sqlalchemy.exc import ArgumentError

from monitor.config import PostgresSettings
from monitor.domain.errors import InvalidInput, LedgerUnavailable
from monitor.storage.access import READER_ALL_ROLE
from monitor.storage.asking_saved import bind, timed
from monitor.storage.engine import ledger_url

_AT_ONCE = 500
# What Postgres itself stops, it stops at the time; this is for a query whose rows nobody takes.
_GRACE_SECONDS = 3.0
# As Postgres writes them: Python has no year -44, no infinity and no months in an interval.
_AS_TEXT = ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "uuid", "inet", "cidr", "bytea")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        sql: one statement.
        tenant: narrows what is seen to this one; None leaves all that the reader may see.
        timeout_seconds: it is given up after so long, the sending of the rows included.
        parameters: values for `:name` in it; `24h ago` is sent as that time.
        counted_from: what `24h ago` is counted back from, aware; now when absent.
    """

    sql: str
    tenant: str | None = None
    timeout_seconds: float = 30.0
    parameters: Mapping[str, str | None] | None = None
    counted_from: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came of it: the columns' names, and the rows as they arrive."""

    columns: tuple[str, ...]
    rows: Iterator[Sequence[Any]]


@contextmanager
def answering(settings: PostgresSettings, question: Question) -> Iterator[Answer]:
    """Ask, for the length of a `with` block; leaving it early cancels the query.

    Raises:
        InvalidInput: Postgres refuses the query, or it took too long, or was ended; says where in it and why.
        LedgerUnavailable: Postgres cannot be reached, or there is no role to read as.
    """
    if "\0" in question.sql or any("\ud800" <= one <= "\udfff" for one in question.sql):
        raise InvalidInput("the query holds what is no text: a NUL, or bytes that are not UTF-8")
    sql, values = bind(question.sql, timed(question.parameters or {}, now=question.counted_from or datetime.now(UTC)))
    with _refusals(sql, question), _connected(settings) as connection, _deadline(connection, question):
        _restrict(connection, question, become=READER_ALL_ROLE if settings.reader_url is None else None)
        columns = _columns(connection, sql)
        size = _AT_ONCE if psycopg.capabilities.has_stream_chunked() else 1
        streamed = psycopg.RawCursor(connection).stream(sql, values, size=size)
        # A generator, by another name: closing it cancels what still runs.
        with closing(cast("Generator[Sequence[Any], None, None]", streamed)) as rows:
            # What fails before the first row fails here: nothing is written then, not even a header.
            first = next(rows, None)
            yield Answer(columns=columns, rows=rows if first is None else chain([first], rows))


def _columns(connection: psycopg.Connection[Any], sql: str) -> tuple[str, ...]:
    """Have Postgres read the query without running it: a stream without rows would never tell its columns."""
    for result in (connection.pgconn.prepare(b"", sql.encode()), connection.pgconn.describe_prepared(b"")):
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            raise pg.error_from_result(result)
    if not result.nfields:
        raise InvalidInput("that is no query: it returns no rows")
    return tuple((result.fname(place) or b"").decode() for place in range(result.nfields))


@contextmanager
def _connected(settings: PostgresSettings) -> Iterator[psycopg.Connection[Any]]:
    name = "postgres.url" if settings.reader_url is None else "postgres.reader_url"
    secret = settings.reader_url or settings.url
    try:
        url = ledger_url(secret.get_secret_value(), setting=name).set(drivername="postgresql")
        connection = psycopg.connect(
            url.render_as_string(hide_password=False),
            connect_timeout=max(2, math.ceil(settings.connect_timeout_seconds)),
            application_name="groundwatch sql",
            client_encoding="utf-8",
        )
    except (psycopg.OperationalError, ArgumentError) as error:
        raise LedgerUnavailable(str(error).strip().splitlines()[0]) from None
    try:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        for name in _AS_TEXT:
            connection.adapters.register_loader(name, TextLoader)
        yield connection
    finally:
        # Nothing is there to commit, and closing also ends what a broken-off stream left running.
        connection.close()


@contextmanager
def _deadline(connection: psycopg.Connection[Any], question: Question) -> Iterator[None]:
    """Break the connection off a little after the time, whatever this thread is at by then.

    Postgres sees to no timeout while it waits to send rows: it would keep its locks, and the dead rows of all, for as
    long as somebody looks at the first page.
    """
    ended = threading.Event()
    # Shutting down the very socket: closing the connection would wait for the thread that uses it.
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as own:

        def watch() -> None:
            if not ended.wait(question.timeout_seconds + _GRACE_SECONDS):
                with suppress(OSError):
                    own.shutdown(socket.SHUT_RDWR)

        watching = threading.Thread(target=watch, name="deadline", daemon=True)
        watching.start()
        try:
            yield
        finally:
            ended.set()
            watching.join()


def _restrict(connection: psycopg.Connection[Any], question: Question, *, become: str | None) -> None:
    milliseconds = max(1, math.ceil(question.timeout_seconds * 1000))
    wanted = {
        "search_path": "report",
        "timezone": "UTC",
        "groundwatch.tenant": question.tenant or "",
        "statement_timeout": f"{milliseconds}ms",
    }
    for name, value in wanted.items():
        connection.execute("select set_config(%s, %s, true)", (name, value))
    if become is None:
        return
    try:
        connection.execute(f"set local role {become}".encode())
    except pg.InvalidParameterValue:
        raise LedgerUnavailable(f"there is no role {become}; run `groundwatch migrate`") from None
    except pg.InsufficientPrivilege:
        raise LedgerUnavailable(
            f"the user of postgres.url may not read as {become}: set postgres.reader_url to a reader's"
        ) from None


@contextmanager
def _refusals(sql: str, question: Question) -> Iterator[None]:
    """Turn what Postgres says about the query into a message for the one who wrote it."""
    began = time.monotonic()
    try:
        yield
    except (pg.QueryCanceled, pg.OperationalError) as error:
        took = time.monotonic() - began
        if took >= question.timeout_seconds:
            raise InvalidInput(
                f"stopped after {question.timeout_seconds:g} s: ask for less, or give it longer with --timeout"
            ) from None
        if isinstance(error, pg.QueryCanceled | pg.AdminShutdown):
            raise InvalidInput(
                f"ended by somebody else after {took:.0f} s, before --timeout: by the watch over readers, whose time "
                "`groundwatch readers list` shows, or by an administrator"
            ) from None
        raise LedgerUnavailable(str(error).strip().splitlines()[0]) from None
    except psycopg.Error as error:
        raise InvalidInput(_explained(error, sql)) from None


def _explained(error: psycopg.Error, sql: str) -> str:
    said = error.diag
    lines = [said.message_primary or str(error).strip()]
    if said.statement_position:
        before = sql[: int(said.statement_position) - 1]
        # Postgres counts these lines only: `splitlines` knows more ends of lines, and gives no last one that is empty.
        line = sql.split("\n")[before.count("\n")]
        column = len(before) - before.rfind("\n") - 1
        lines[0] += f", at line {before.count(chr(10)) + 1}, column {column + 1}:"
        lines += [f"  {line}", f"  {' ' * column}^"]
        if unset := re.match(r":([a-z_][a-z0-9_]*)", line[column:]):
            lines.append(f"hint: :{unset[1]} stands for a value; give it with --param {unset[1]}=…")
    lines += [
        f"{kind}: {what}" for kind, what in (("detail", said.message_detail), ("hint", said.message_hint)) if what
    ]
    if isinstance(error, pg.UndefinedTable):
        lines.append("hint: the views of the schema report can be read; docs/sql.md describes them")
    return "\n".join(lines)
