"""Login roles that read `report`: made, listed, changed, removed, and held to their time.

Roles belong to the cluster, what they see to the database: the same role may read other tenants in another ledger.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import errors as pg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from monitor.domain.errors import InvalidInput
from monitor.storage.access import READER_ROLE
from monitor.storage.engine import snapshot, transaction

ALL_TENANTS = "*"
"""In place of a tenant: all of them, those to come included."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_RESERVED = re.compile(r"pg_|groundwatch_")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """A login role that reads.

    Attributes:
        name: of the role.
        tenants: whose rows it sees; `*` are all.
        statement_seconds: one query of its may run so long.
        created_at: when it was made.
    """

    name: str
    tenants: tuple[str, ...]
    statement_seconds: float
    created_at: datetime


def add_reader(engine: Engine, *, name: str, tenants: Sequence[str], statement_seconds: float, password: str) -> None:
    """Make the role. The password leaves this process as a SCRAM verifier only: no log of Postgres's will show it.

    Raises:
        InvalidInput: the name cannot be one, or there is such a role.
        LedgerUnavailable: Postgres is away or not migrated, or its user may make no roles.
    """
    if not _NAME.fullmatch(name) or _RESERVED.match(name):
        raise InvalidInput(
            f"{name!r} cannot be a reader's name: a letter, then letters, digits and underscores, all lower case, "
            "63 at most; pg_ and groundwatch_ are taken"
        )
    with transaction(engine) as connection:
        if connection.scalar(text("select 1 from pg_roles where rolname = :name"), {"name": name}):
            raise InvalidInput(f"there is a role {name!r} in this Postgres; choose another name")
        for statement in _making(connection, name, password, statement_seconds):
            connection.exec_driver_sql(statement)
        connection.execute(
            text("insert into readers (role_name, statement_seconds) values (:name, :seconds)"),
            {"name": name, "seconds": statement_seconds},
        )
        _map(connection, name, tenants)


def change_reader(
    engine: Engine,
    name: str,
    *,
    tenants: Sequence[str] | None = None,
    statement_seconds: float | None = None,
    password: str | None = None,
) -> None:
    """Give a reader other tenants, another time or another password; None leaves what there is.

    Other tenants hold for its next query. With another password or time its sessions end: they began with the old.

    Raises:
        InvalidInput: there is no reader of that name.
        LedgerUnavailable: Postgres is away or not migrated, or its user may not change the role.
    """
    with transaction(engine) as connection:
        if not connection.scalar(text("select 1 from readers where role_name = :name for update"), {"name": name}):
            raise InvalidInput(f"there is no reader {name!r}; see groundwatch readers list")
        if tenants is not None:
            connection.execute(text("delete from reader_tenants where role_name = :name"), {"name": name})
            _map(connection, name, tenants)
        statements = []
        if statement_seconds is not None:
            connection.execute(
                text("update readers set statement_seconds = :seconds where role_name = :name"),
                {"name": name, "seconds": statement_seconds},
            )
            statements += _times(connection, name, statement_seconds)
        if password is not None:
            statements.append(f"alter role \"{name}\" password '{_verifier(connection, name, password)}'")
        for statement in statements:
            connection.exec_driver_sql(statement)
    if statements:
        # Once the new ones hold: a session that came in between would have the old.
        with transaction(engine) as connection:
            _end_sessions(connection, name)


def _map(connection: Connection, name: str, tenants: Sequence[str]) -> None:
    connection.execute(
        text("insert into reader_tenants (role_name, tenant) values (:name, :tenant)"),
        [{"name": name, "tenant": tenant} for tenant in dict.fromkeys(tenants)],
    )


def _making(connection: Connection, name: str, password: str, seconds: float) -> list[str]:
    of_role, database = _settings_of(connection, name)
    return [
        f"create role \"{name}\" login nocreatedb nocreaterole password '{_verifier(connection, name, password)}'",
        # Its rights, but never its place: nobody becomes a group that others are members of, too.
        f'grant {READER_ROLE} to "{name}" with inherit true, set false',
        f"grant connect on database {database} to {READER_ROLE}",
        *_times(connection, name, seconds),
        f"{of_role} default_transaction_read_only = on",
        f"{of_role} search_path = report",
        *_power_over(connection, name),
    ]


def _times(connection: Connection, name: str, seconds: float) -> list[str]:
    of_role, _ = _settings_of(connection, name)
    milliseconds = max(1, round(seconds * 1000))
    return [
        f"{of_role} statement_timeout = '{milliseconds}ms'",
        f"{of_role} idle_in_transaction_session_timeout = '{max(milliseconds, 60_000)}ms'",
    ]


def _settings_of(connection: Connection, name: str) -> tuple[str, str]:
    """The beginning of a statement that sets something for the role in this database, and the database's name."""
    database = connection.dialect.identifier_preparer.quote_identifier(
        str(connection.scalar(text("select current_database()")))
    )
    return f'alter role "{name}" in database {database} set', database


def _verifier(connection: Connection, name: str, password: str) -> str:
    driver = connection.connection.driver_connection
    assert driver is not None
    return str(driver.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode())


def _end_sessions(connection: Connection, name: str) -> None:
    connection.execute(
        text("select pg_terminate_backend(pid) from pg_stat_activity where usename = :name"), {"name": name}
    )


def _power_over(connection: Connection, name: str) -> list[str]:
    """What lets the ledger's owner end the reader's queries; a superuser may anyway."""
    if connection.scalar(text("select rolsuper from pg_roles where rolname = current_user")):
        return []
    return [f'grant "{name}" to current_user with inherit true, set false']


def list_readers(engine: Engine) -> list[Reader]:
    """All of this database, by name.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    query = """
        select role_name, statement_seconds, created_at,
            array(select tenant from reader_tenants as of where of.role_name = readers.role_name order by 1) as tenants
        from readers order by role_name
    """
    with snapshot(engine) as connection:
        return [
            Reader(
                name=row.role_name,
                tenants=tuple(row.tenants),
                statement_seconds=row.statement_seconds,
                created_at=row.created_at,
            )
            for row in connection.execute(text(query))
        ]


def remove_reader(engine: Engine, name: str) -> None:
    """End its sessions, and drop the role with all that it may.

    Raises:
        InvalidInput: there is none of that name, or the role is used for something else, too.
        LedgerUnavailable: Postgres is away or not migrated, or its user may drop no such role.
    """
    named = {"name": name}
    try:
        with transaction(engine) as connection:
            if not connection.scalar(text("delete from readers where role_name = :name returning 1"), named):
                raise InvalidInput(f"there is no reader {name!r}; see groundwatch readers list")
            connection.execute(text("delete from reader_tenants where role_name = :name"), named)
            _end_sessions(connection, name)
            if connection.scalar(text("select 1 from pg_roles where rolname = :name"), named):
                role = connection.dialect.identifier_preparer.quote_identifier(name)
                connection.exec_driver_sql(f"drop owned by {role}")
                connection.exec_driver_sql(f"drop role {role}")
    except DBAPIError as error:
        if isinstance(error.orig, pg.DependentObjectsStillExist):
            raise InvalidInput(f"the role {name!r} is used elsewhere in this Postgres, too: {error.orig}") from None
        raise


# A query is cancelled first, which its reader may swallow (plpgsql catches `query_canceled`) and Postgres does not see
# to while it waits for a client that reads nothing. Nothing outlives the end of its session.
# A query is cancelled first. But plpgsql may catch that and go on, and Postgres does not see to it while it waits for a
# client that reads nothing: then the session ends, which nothing outlives.
_OVERLONG = """
select
    usename,
    case when idles or late > 2 * :pace then pg_terminate_backend(pid) else pg_cancel_backend(pid) end as ended
from (
    select
        usename, pid, idles,
        extract(epoch from clock_timestamp() - since) - 1
            - case when idles then greatest(statement_seconds, 60) else statement_seconds end as late
    from pg_stat_activity
    join readers on role_name = usename
    cross join lateral (
        select
            state like 'idle in transaction%' as idles,
            -- A function that is called by the protocol's fast path leaves the time of the query before.
            case state when 'active' then query_start else state_change end as since
    ) as of_state
    where datname = current_database() and backend_type = 'client backend' and state <> 'idle'
) as busy
where late > 0
"""


def stop_overlong(engine: Engine, *, pace: float) -> list[str]:
    """End what readers run beyond their time; the name of each reader that something was ended of.

    A role may set its own `statement_timeout` to what it likes, so Postgres alone does not hold it. A query is
    cancelled, and where it runs on all the same, its session ends.

    Args:
        engine: of the ledger.
        pace: seconds between two looks; a session ends once a query has run for two of them beyond its time.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated, or its user may not end others' queries.
    """
    with transaction(engine) as connection:
        return [row.usename for row in connection.execute(text(_OVERLONG), {"pace": pace}) if row.ended]
