"""What retention takes away goes without a trace in what is kept for ever.

`expirations.done` tells what is gone from what has been promised to go, `seen` which transactions have come since. A
word of the pool on an hour that was promised leaves its sum alone: nothing could make it anew. Minutes of which nothing
but sums is left are read from sums, also where a replay had judged in them. A day that is half detached is detached
whole before it is made anew: dropping it as it is would keep out everybody who uses the table. A day that somebody else
detached is moved aside, not dropped.

Duplicates and ids of OpenTelemetry get the event time of their trace, so that they can go with it. The release before
goes on writing, without; such rows stay.

Revision ID: 0024
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_KEYS = ("tenant", "service", "environment", "evaluator", "judge_version")
_LOCK = 0x72617465  # also in monitor/storage/trusted_hours.py

# Up to when the verdicts of a tenant are gone, or about to go.
_BEFORE = """coalesce(
        (select gone.before from expirations as gone where gone.kind = 'verdicts' and gone.tenant = {tenant}),
        (select gone.before from expirations as gone where gone.kind = 'verdicts' and gone.tenant = '*'),
        '-infinity'
    )"""

_FORGET = """
create or replace function rate_forget_hour() returns trigger language plpgsql as $$
declare
    at timestamptz := date_trunc('hour', new.minute, 'UTC');
begin
    perform pg_advisory_xact_lock_shared({lock}, (extract(epoch from at) / 3600)::integer);{comment}
    delete from trusted_hours as h
    where {same} and h.hour = at{kept};
    return null;
end
$$
"""
_SAME = " and ".join(f"h.{name} = new.{name}" for name in _KEYS)
# Retention sums up under the same lock, alone, after it has promised: who has waited for it sees the promise here.
FORGET = _FORGET.format(
    lock=_LOCK,
    comment="\n    -- In a statement of its own: it sees what retention has promised while this one waited.",
    same=_SAME,
    kept=f"\n        and at >= {_BEFORE.format(tenant='new.tenant')}",
)
OLD_FORGET = _FORGET.format(lock=_LOCK, comment="", same=_SAME, kept="")

_MAKE_DAY = """
create or replace function make_day(day date) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    kind text;
    name text;
    first text := to_char(day, 'YYYY-MM-DD"T00:00:00Z"');
    after text := to_char(day + 1, 'YYYY-MM-DD"T00:00:00Z"');{variables}
begin
    if day < first_day() then
        return true;
    elsif day > (now() at time zone 'UTC')::date + 7 then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('groundwatch days', 0));
    foreach kind in array array['verdict_rows', 'judgement_rows', 'payloads'] loop
        name := kind || to_char(day, '"_"YYYYMMDD');
        continue when exists (
            select from pg_inherits where inhrelid = to_regclass(name) and not inhdetachpending
        );
        {clear}
        execute format('create table %I (like %I including all)', name, kind);
        execute format('alter table %I attach partition %I for values from (%L) to (%L)', kind, name, first, after);
    end loop;
    return true;
end
$$
"""
MAKE_DAY = _MAKE_DAY.format(
    variables="\n    patience text := current_setting('lock_timeout');\n    of_kind text;",
    clear="""if exists (select from pg_inherits where inhrelid = to_regclass(name)) then
            -- Somebody was stopped while detaching it. Who still reads it is waited for, and not for long: others who
            -- need a day wait behind. The batch comes again.
            perform set_config('lock_timeout', '2s', true);
            execute format('alter table %I detach partition %I finalize', kind, name);
            perform set_config('lock_timeout', patience, true);
        end if;
        of_kind := case kind when 'payloads' then 'payloads' else 'verdicts' end;
        if to_regclass(name) is null then
            null;
        elsif day < (
            select (min(gone.before) at time zone 'UTC')::date from expirations as gone
            where gone.kind = of_kind
        ) then
            execute format('drop table %I', name);  -- retention detached it
        else
            execute format('alter table %I rename to %I', name, name || to_char(now(), '"_aside_"YYYYMMDDHH24MISS'));
        end if;
        -- Made apart and then attached: this stops nobody who writes to other days.""",
)
OLD_MAKE_DAY = _MAKE_DAY.format(
    variables="",
    clear="""execute format('drop table if exists %I', name);  -- retention detached it
        -- Made apart and then attached: this stops nobody who writes to other days.""",
)

_SUMMED = "r.first_weighed = r.first_total and r.replayed = 0"
_SUMMED_OR_GONE = (
    f"r.first_weighed = r.first_total and (r.replayed = 0 or r.minute < {_BEFORE.format(tenant='r.tenant')})"
)


def upgrade() -> None:
    op.add_column("expirations", sa.Column("done", sa.DateTime(timezone=True)))
    op.execute("alter table expirations add column seen xid8")
    for table in ("duplicates", "otel_traces"):
        op.add_column(table, sa.Column("event_time", sa.DateTime(timezone=True)))
    for table, column in (("duplicates", "event_time"), ("otel_traces", "event_time"), ("dead_letters", "dead_at")):
        # BRIN: nothing is sorted, and the table is read once.
        op.create_index(f"ix_{table}_{column}", table, [column], postgresql_using="brin")
    op.execute(FORGET)
    op.execute(MAKE_DAY)
    _judged(now=_SUMMED, then=_SUMMED_OR_GONE)


def downgrade() -> None:
    _judged(now=_SUMMED_OR_GONE, then=_SUMMED)
    op.execute(OLD_MAKE_DAY)
    op.execute(OLD_FORGET)
    for table, column in (("dead_letters", "dead_at"), ("otel_traces", "event_time"), ("duplicates", "event_time")):
        op.drop_index(f"ix_{table}_{column}", table)
    for table in ("otel_traces", "duplicates"):
        op.drop_column(table, "event_time")
    op.drop_column("expirations", "seen")
    op.drop_column("expirations", "done")


def _judged(*, now: str, then: str) -> None:
    """Say of which minutes the sums are read, in the function as it is."""
    question = sa.text("select pg_get_functiondef(cast('rate_judged' as regproc))")
    definition = op.get_bind().execute(question).scalar_one()
    if now not in definition:
        raise RuntimeError("rate_judged is not as migration 0018 made it")
    op.get_bind().exec_driver_sql(definition.replace(now, then).replace("%", "%%"))
