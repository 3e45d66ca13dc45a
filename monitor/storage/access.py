"""What each role may see of each table: applied to whatever tables, views and functions there are after migrating.

A table is covered by its columns: its rows belong to a tenant, or to a segment or an alert that does, or to the whole
installation. So a table to come is covered by being there. What the roles are for is in docs/tenancy.md.

Views of ours belong to `groundwatch_views`, a role whose policies hold for whoever asks through them. A view with
`security_invoker` would not do below another one: Postgres checks its tables as the one who asks, who may read none.
"""

from collections.abc import Iterator
from hashlib import md5

from sqlalchemy import Connection, text

# ruff: noqa: S608 - only constants of this file and names from the catalogue are put in
VIEWS_ROLE = "groundwatch_views"
READER_ROLE = "groundwatch_reader"
READER_ALL_ROLE = "groundwatch_reader_all"
WRITER_ROLE = "groundwatch_writer"

OWN = frozenset({"readers", "reader_tenants", "own_tenants", "alembic_version"})
"""Relations of `public` that no general rule is for: those that the rules are made from, and Alembic's."""

DICTIONARIES = frozenset({"judges", "decisions", "choices", "topics"})
"""Tables that views may show whole: names and versions of judges and topics, reasons of policies; no tenant's text."""

PARTS = (
    *("verdicts", "judgements", "judges", "rollups", "trusted_hours", "segment_hours", "expirations"),
    *("labels", "label_draws", "label_tasks"),
    *("verdict_rows", "judgement_rows", "segments", "choices", "feedback", "otel_traces", "escalations"),
)
"""What functions of `report` read: readers reach it as views of `report_parts`, which promises nothing."""

_EVERY = "(select own.every from public.own_tenants as own)"
# Asked once a query, each: a subquery that depends on no row. The subplan of `in` is hashed.
_OF_TENANT = f"({_EVERY} or tenant = any ((select own.tenants from public.own_tenants as own)::text[]))"
_OF_SEGMENT = f"({_EVERY} or segment_id in (select segments.segment_id from public.segments))"
_OF_ALERT = f"({_EVERY} or alert_id in (select alerts.alert_id from public.alerts))"
_OF_ALL = f"(select public.whole_installation({_EVERY}))"
_BY_COLUMN = (("tenant", _OF_TENANT), ("segment_id", _OF_SEGMENT), ("alert_id", _OF_ALERT))
_POLICY = "tenancy"

_TABLES = """
select c.relname, c.relrowsecurity, array_agg(a.attname::text) as columns, obj_description(p.oid, 'pg_policy') as mark
from pg_class as c
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_policy as p on p.polrelid = c.oid and p.polname = 'tenancy'
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
group by c.relname, c.relrowsecurity, p.oid
order by c.relname
"""

_VIEWS = """
select
    relnamespace::regnamespace::text as schema, relname, relowner = 'groundwatch_views'::regrole as owned,
    coalesce(reloptions::text like '%security_invoker%', false) as invoking
from pg_class
where relnamespace::regnamespace::text in ('public', 'report') and relkind = 'v'
order by 1, 2
"""

# Functions that read run as the one who asks. Their unqualified names mean the views of `report_parts`, whatever the
# session's path, and never a temporary table.
_FUNCTIONS = """
select oid::regprocedure::text
from pg_proc
where (pronamespace = 'report'::regnamespace or pronamespace = 'public'::regnamespace and proname like 'rate\\_%')
    and provolatile = 's'
"""


# Whoever may call these has their owner's rights: not everybody, as Postgres would have it.
_POWERFUL = """
select oid::regprocedure::text
from pg_proc
where pronamespace in ('public'::regnamespace, 'report'::regnamespace, 'report_parts'::regnamespace) and prosecdef
"""


def covered_since(connection: Connection) -> bool:
    """Whether this database has roles and tenants of readers at all: from migration 0020 on."""
    return bool(connection.scalar(text("select to_regclass('public.own_tenants') is not null")))


def release(connection: Connection) -> None:
    """Take away what would stand in the way of migrations: views made of all columns of a table."""
    for name in connection.scalars(
        text("select relname from pg_class where relnamespace = to_regnamespace('report_parts') and relkind = 'v'")
    ).all():
        connection.exec_driver_sql(f'drop view report_parts."{name}"')


def protect(connection: Connection) -> None:
    """Cover every table, view and function that there is. Changes only what is not so yet.

    It runs when something was migrated: a change of these rules comes with a migration, be it an empty one.
    """
    statements = [*_tables(connection), *_views(connection), *_parts(), *_functions(connection)]
    for statement in statements:
        connection.exec_driver_sql(statement)


def rule(columns: frozenset[str], table: str) -> str:
    """The condition under which a row of this table is seen, as SQL."""
    if table in DICTIONARIES:
        return "true"
    if table == "expirations":
        # The row of all tenants that have none of their own is everybody's.
        return f"(tenant = '*' or {_OF_TENANT})"
    return next((condition for column, condition in _BY_COLUMN if column in columns), _OF_ALL)


def _tables(connection: Connection) -> Iterator[str]:
    for row in connection.execute(text(_TABLES)).all():
        if row.relname in OWN:
            continue
        name = f'public."{row.relname}"'
        condition = rule(frozenset(row.columns), row.relname)
        mark = md5(condition.encode(), usedforsecurity=False).hexdigest()
        # These two lock the table against readers: only where there is something to change.
        if not row.relrowsecurity:
            yield f"alter table {name} enable row level security"
        if row.mark != mark:
            yield f"drop policy if exists {_POLICY} on {name}"
            yield (
                f"create policy {_POLICY} on {name} to {VIEWS_ROLE}, {WRITER_ROLE}"
                f" using ({condition}) with check ({condition})"
            )
            yield f"comment on policy {_POLICY} on {name} is '{mark}'"
        yield f"grant select on {name} to {VIEWS_ROLE}"
        # What all tenants' rows are read by is added to, and never changed.
        verbs = "select, insert" if row.relname in DICTIONARIES else "select, insert, update, delete"
        yield f"grant {verbs} on {name} to {WRITER_ROLE}"
    yield f"grant usage on all sequences in schema public to {WRITER_ROLE}"


def _views(connection: Connection) -> Iterator[str]:
    for row in connection.execute(text(_VIEWS)).all():
        if row.relname in OWN:
            continue
        name = f'{row.schema}."{row.relname}"'
        if row.invoking:
            yield f"alter view {name} reset (security_invoker)"
        if not row.owned:
            yield f"alter view {name} owner to {VIEWS_ROLE}"
        readers = WRITER_ROLE if row.schema == "public" else f"{READER_ROLE}, {WRITER_ROLE}"
        yield f"grant select on {name} to {readers}"


def _parts() -> Iterator[str]:
    for part in PARTS:
        yield f"create or replace view report_parts.{part} as select * from public.{part}"
        yield f"alter view report_parts.{part} owner to {VIEWS_ROLE}"
        yield f"grant select on report_parts.{part} to {READER_ROLE}, {WRITER_ROLE}"


def _functions(connection: Connection) -> Iterator[str]:
    for name in connection.scalars(text(_FUNCTIONS)).all():
        yield f"alter function {name} set search_path = report_parts, public, pg_temp"
    for name in connection.scalars(text(_POWERFUL)).all():
        yield f"revoke execute on function {name} from public"
        yield f"grant execute on function {name} to {WRITER_ROLE}"
