"""A ledger that is measured: how large its tables are, and what a benchmark does to it that no worker does."""

from dataclasses import dataclass

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
