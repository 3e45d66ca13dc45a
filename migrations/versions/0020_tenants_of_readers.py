"""Roles, and which tenants each may see.

What they may do with each table is `monitor.storage.access`, applied once all migrations are done.

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op

# ruff: noqa: S608 - only constants of this file are put in
revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_ROLES = ("groundwatch_views", "groundwatch_reader", "groundwatch_reader_all", "groundwatch_writer")
# For this user: to own views through the first, and to read as the third. Superusers need none of it.
_ADVICE = (
    "".join(f"create role {role} nologin; " for role in _ROLES)
    + "grant groundwatch_reader to groundwatch_reader_all; "
    + "grant groundwatch_views to %1$I with inherit true, set true; "
    + "grant groundwatch_reader_all to %1$I with inherit false, set true; "
    + "grant groundwatch_reader, groundwatch_writer to %1$I with admin option, inherit false, set false;"
)

# Roles belong to the cluster: another database, or another migrator at this instant, may have made them.
ROLES = f"""
do $$
declare
    wanted text;
begin
    foreach wanted in array array[{", ".join(f"'{role}'" for role in _ROLES)}] loop
        if not exists (select from pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin', wanted);
            exception when duplicate_object or unique_violation then null;
            end;
        end if;
    end loop;
    if not pg_has_role('groundwatch_reader_all', 'groundwatch_reader', 'usage') then
        grant groundwatch_reader to groundwatch_reader_all with inherit true, set false;
    end if;
    if not pg_has_role('groundwatch_views', 'usage') or not pg_has_role('groundwatch_views', 'set') then
        execute format('grant groundwatch_views to %I with inherit true, set true', current_user);
    end if;
    if not pg_has_role('groundwatch_reader_all', 'set') then
        execute format('grant groundwatch_reader_all to %I with inherit false, set true', current_user);
    end if;
exception when insufficient_privilege then
    raise insufficient_privilege using message = format(
        'this migration needs roles that %1$I may not make; nothing was changed. A superuser runs once: {_ADVICE}',
        current_user
    );
end
$$
"""

TRUSTED = """
do $$
begin
    if exists (
        select from pg_roles where rolname = any (array['groundwatch_views', 'groundwatch_reader',
            'groundwatch_reader_all', 'groundwatch_writer']) and (rolsuper or rolbypassrls or rolcanlogin)
    ) then
        raise insufficient_privilege using message =
            'a role groundwatch_* may log in, is a superuser or bypasses row-level security: it must not';
    end if;
end
$$
"""

# `current_user` inside a view is who asks, not who owns the view. Who has the rights of the tables' owner sees all.
# The setting `groundwatch.tenant` can only narrow what a role sees, so anyone may set it.
OWN_TENANTS = """
create view own_tenants as
select
    every and narrowed is null as every,
    case
        when narrowed is null then tenants
        when every or narrowed = any (tenants) then array[narrowed]
        else '{}'
    end as tenants
from (
    select
        coalesce(bool_or(tenant = '*'), false)
            or pg_has_role((select relowner from pg_class where oid = 'public.reader_tenants'::regclass), 'usage')
            as every,
        coalesce(array_agg(tenant), '{}') as tenants,
        nullif(current_setting('groundwatch.tenant', true), '') as narrowed
    from public.reader_tenants
    where role_name = current_user
) as mine
"""

# An empty answer would read as "nothing was accepted", a count as the whole of it: neither is true for one tenant.
WHOLE = """
create function whole_installation(every boolean) returns boolean language plpgsql stable parallel safe as $$
begin
    if every then
        return true;
    end if;
    raise insufficient_privilege using
        message = 'these rows count the whole installation: a role that sees some tenants only cannot read them',
        hint = 'Ask as a reader of all tenants, and without narrowing to one.';
end
$$
"""


# Readers reach `label_draws` through a view, which has no primary key that the other columns would follow from.
GROUPED = """
do $$
declare
    found record;
begin
    for found in
        select pg_get_functiondef(oid) as made from pg_proc
        where pronamespace = 'public'::regnamespace and proname in ('rate_sums', 'rate_weighted_sums')
    loop
        execute regexp_replace(
            found.made, 'group by d\\.draw_id(?!,)',
            'group by d.draw_id, d.tenant, d.service, d.environment, d.evaluator, d.since, d.until, d.eligible'
        );
    end loop;
end
$$
"""


def upgrade() -> None:
    op.execute(ROLES)
    op.execute(TRUSTED)
    op.create_table(
        "readers",
        sa.Column("role_name", sa.Text(), nullable=False),
        sa.Column("statement_seconds", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("role_name", name=op.f("pk_readers")),
        sa.CheckConstraint("statement_seconds > 0", name=op.f("ck_readers_statement_seconds")),
        comment="Login roles that read `report`, and for how long one query of theirs may run.",
    )
    op.create_table(
        "reader_tenants",
        sa.Column("role_name", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("role_name", "tenant", name=op.f("pk_reader_tenants")),
        comment="Tenants whose rows a role sees, readers and writers alike; '*' are all, those to come included.",
    )
    op.execute("insert into reader_tenants values ('groundwatch_reader_all', '*')")
    op.execute(OWN_TENANTS)
    op.execute(WHOLE)
    op.execute(GROUPED)
    op.execute("create schema report_parts")
    op.execute("grant usage, create on schema public, report, report_parts to groundwatch_views")
    op.execute("grant usage on schema public, report, report_parts to groundwatch_reader, groundwatch_writer")
    op.execute("alter view own_tenants owner to groundwatch_views")
    op.execute("grant select on own_tenants to groundwatch_writer")
    op.execute("alter table readers enable row level security")
    op.execute("create policy watching on readers for select to groundwatch_writer using (true)")
    op.execute("grant select on readers to groundwatch_writer")
    op.execute("alter table reader_tenants enable row level security")
    op.execute("create policy own on reader_tenants for select to groundwatch_views using (role_name = current_user)")
    op.execute("grant select on reader_tenants to groundwatch_views")


# The roles stay: other databases of the cluster may use them.
DOWN = f"""
do $$
declare
    found record;
begin
    for found in select polname, polrelid::regclass as of_table from pg_policy where polname = 'tenancy' loop
        execute format('drop policy %I on %s', found.polname, found.of_table);
        execute format('alter table %s disable row level security', found.of_table);
    end loop;
    for found in
        select c.oid::regclass as name from pg_class as c
        where c.relkind = 'v' and c.relowner = 'groundwatch_views'::regrole
    loop
        execute format('alter view %s owner to current_user', found.name);
    end loop;
    for found in
        select oid::regprocedure as name from pg_proc
        where pronamespace in ('report'::regnamespace, 'public'::regnamespace)
            and exists (select from unnest(proconfig) as set_to where set_to like 'search_path=report_parts%')
    loop
        execute format('alter function %s reset search_path', found.name);
    end loop;
end
$$;
revoke all on all tables in schema public, report from {", ".join(_ROLES)};
revoke all on all sequences in schema public from {", ".join(_ROLES)};
revoke all on schema public, report from {", ".join(_ROLES)};
"""


def downgrade() -> None:
    op.execute("drop schema report_parts cascade")
    op.execute(DOWN)
    op.execute("drop view own_tenants")
    op.execute("drop function whole_installation")
    op.drop_table("reader_tenants")
    op.drop_table("readers")
