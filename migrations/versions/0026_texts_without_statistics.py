"""No statistics of what people and models wrote: a reader could find out another tenant's words by EXPLAIN.

Postgres estimates `answer < 'm'` by the column's histogram, which is of all tenants, whatever row-level security lets
through: comparing texts is leakproof. Nobody filters by these columns, so the planner loses nothing. Other columns of
texts are names and ids, which plans need; JSON is compared by nothing leakproof.

Revision ID: 0026
Revises: 0025
"""

from alembic import op

# ruff: noqa: S608 - only constants of this file are put in
revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_DAILY = ("payloads", "verdict_rows", "judgement_rows")
_TABLES = (*_DAILY, "feedback", "labels", "alert_transitions", "dead_letters", "escalations")
_TEXTS = ("question", "answer", "reasoning", "detail", "comment", "corrected_answer", "note", "last_error")

# What was learned before stays in the catalogue where nothing is learned any more. Its owner may take it away from
# Postgres 18 on, before that a superuser only.
COVER = f"""
create function leave_texts_out(of_table regclass) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    found record;
    inherited boolean;
begin
    for found in
        select relname, attname, attrelid, attnum
        from pg_attribute
        join pg_class on pg_class.oid = attrelid
        where attrelid = of_table and not attisdropped and attname = any ('{{{",".join(_TEXTS)}}}')
    loop
        execute format('alter table only %s alter column %I set statistics 0', of_table, found.attname);
        if to_regprocedure('pg_clear_attribute_stats(text, text, text, boolean)') is not null then
            foreach inherited in array array[false, true] loop
                execute format(
                    'select pg_clear_attribute_stats(%L, %L, %L, %L)', 'public', found.relname, found.attname, inherited
                );
            end loop;
        elsif (select rolsuper from pg_roles where rolname = current_user) then
            delete from pg_statistic where starelid = found.attrelid and staattnum = found.attnum;
        end if;
    end loop;
end
$$
"""

EVERY = f"""
select leave_texts_out(within.relid)
from unnest('{{{",".join(_TABLES)}}}'::regclass[]) as named
cross join lateral (
    select named as relid union select relid from pg_partition_tree(named)
) as within
"""

# A day to come is made like its parent, in all but this. Put into whatever the function does by now.
_ATTACH = "execute format(''alter table %I attach partition"
_LEAVE_OUT = "perform leave_texts_out(to_regclass(name));\n        "
_PATCH = """
do $do$
declare
    made text := pg_get_functiondef('make_day(date)'::regprocedure);
begin
    if position('{old}' in made) = 0 then
        raise exception 'make_day attaches no partition as this migration knows it';
    end if;
    execute replace(made, '{old}', '{new}');
end
$do$
"""

AS_BEFORE = f"""
do $do$
declare
    found record;
begin
    for found in
        select attrelid::regclass as of_table, attname from pg_attribute
        where attrelid = any ('{{{",".join(_TABLES)}}}'::regclass[]) and not attisdropped
            and attname = any ('{{{",".join(_TEXTS)}}}')
    loop
        execute format('alter table %s alter column %I set statistics -1', found.of_table, found.attname);
    end loop;
end
$do$
"""


def upgrade() -> None:
    op.execute("set local statement_timeout = 0")  # two looks at the catalogue a column and day
    op.execute(COVER)
    op.execute("revoke execute on function leave_texts_out from public")
    op.execute(EVERY)
    op.execute(_PATCH.format(old=_ATTACH, new=_LEAVE_OUT + _ATTACH))


def downgrade() -> None:
    op.execute(_PATCH.format(old=_LEAVE_OUT, new=""))
    op.execute("drop function leave_texts_out")
    op.execute(AS_BEFORE)
