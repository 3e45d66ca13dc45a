"""A ledger that is measured: how large its tables are, and what a benchmark does to it that no worker does."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import Engine, text

from monitor.storage.engine import driver_errors, snapshot, transaction

_ANSWER = (
    "insert into choices (judge, chosen_because) values ('pool@bench', 'audit') on conflict do nothing",
    "insert into judges (judge, name, tier, model, model_digest)"  # noqa: ISC004 - one statement
    " values ('pool@bench', 'pool', 'pool', 'b', 'b') on conflict do nothing",
    """
    insert into judgement_rows (
        verdict_id, event_time, judged_at, raw_score, probability, latency_us, segment_id, choice_id, sequence
    )
    select verdict_id, event_time, judged_at, case when hallucinated then 3 else -3 end, probability, 900000,
        segment_id, (select choice_id from choices where judge = 'pool@bench'), 9
    from verdict_rows
    where escalated
    on conflict do nothing
    """,
    "update escalations set state = 'done', assessment = null, finished_at = now() where state = 'waiting'",
)

_SIZES = text("""
select coalesce(pg_partition_root(oid)::regclass::text, relname) as name,
    sum(pg_table_size(oid))::bigint as heap, sum(pg_indexes_size(oid))::bigint as indexes
from pg_class
where relkind = 'r' and relnamespace = 'public'::regnamespace
group by 1
order by sum(pg_total_relation_size(oid)) desc
""")

# One answer in 500, a minute after it; people are harder to please than the judges.
_FEEDBACK = text("""
insert into feedback (tenant, feedback_id, trace_id, given_at, recorded_at, source, thumb)
select tenant, 'f-' || verdict_id, trace_id, event_time + interval '1 minute', event_time + interval '2 minutes',
    'end_user', case when hallucinated or verdict_id % 1000 = 0 then 'down' else 'up' end
from verdict_rows join segments using (segment_id)
where verdict_id % 500 = 0
on conflict do nothing
""")
_DAYS_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """A table and all its partitions, in bytes."""

    name: str
    heap: int
    indexes: int


def table_sizes(engine: Engine) -> tuple[Size, ...]:
    """All tables, the largest first.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    with snapshot(engine) as connection:
        return tuple(Size(**row) for row in connection.execute(_SIZES).mappings())


def grow_old(engine: Engine, *, until: date, verdict_days: int, payload_days: int) -> None:
    """Make the days that a ledger has after so long, each empty: what Postgres plans with grows with their number.

    Only for a ledger without a verdict: its first day becomes an earlier one.

    Args:
        engine: of the ledger; its user owns the tables.
        until: the first day that is not made.
        verdict_days: so many days of verdicts before that.
        payload_days: so many of them have payloads.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    kept = {"verdict_rows": verdict_days, "judgement_rows": verdict_days, "payloads": payload_days}
    statements: list[str] = []
    for table, days in kept.items():
        since = until - timedelta(days=days)
        statements += [
            f"alter table {table} detach partition {table}_before",
            f"alter table {table} attach partition {table}_before for values from (minvalue) to ('{since}T00:00Z')",
            *_days(table, since, until),
        ]
    for place in range(0, len(statements), _DAYS_AT_ONCE):
        with transaction(engine) as connection:
            for statement in statements[place : place + _DAYS_AT_ONCE]:
                connection.exec_driver_sql(statement)


def _days(table: str, since: date, until: date) -> Iterator[str]:
    for place in range((until - since).days):
        day = since + timedelta(days=place)
        name, after = f"{table}_{day:%Y%m%d}", day + timedelta(days=1)
        yield f"create table {name} (like {table} including all)"
        yield f"alter table {table} attach partition {name} for values from ('{day}T00:00Z') to ('{after}T00:00Z')"


def give_feedback(engine: Engine) -> None:
    """Let users have said something of one answer in 500.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated; nothing was said.
    """
    with transaction(engine) as connection:
        connection.execute(text("set local statement_timeout = 0"))
        connection.execute(_FEEDBACK)


def answer_escalations(engine: Engine) -> None:
    """Let a pool have answered all that waits, at once, as the local judges said: its worker is not what is measured.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated; nothing was answered.
    """
    with transaction(engine) as connection:
        connection.execute(text("set local statement_timeout = 0"))
        for statement in _ANSWER:
            connection.execute(text(statement))


def vacuum(engine: Engine) -> None:
    """As Postgres does by itself, now.

    Raises:
        LedgerUnavailable: Postgres is away.
    """
    with driver_errors(), engine.connect() as connection:
        steady = connection.execution_options(isolation_level="AUTOCOMMIT")
        steady.execute(text("set statement_timeout = 0"))
        steady.execute(text("vacuum (analyze)"))
