"""What waits for the pool, and what it cost."""

from sqlalchemy import BigInteger, Column, Date, DateTime, Identity, Index, Integer, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB

from monitor.storage.tables.columns import UPDATED_IN_PLACE, counter, key, metadata, moment, one_of

escalations = Table(
    "escalations",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("evaluator", Text, nullable=False),
    Column("judge_version", Text, nullable=False),
    Column("assessment", JSONB),
    Column("reason", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("claims", Integer, nullable=False, server_default=text("0")),
    Column("available_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    moment("finished_at", nullable=True),
    Column("last_error", Text),
    moment("event_time", nullable=True),
    UniqueConstraint(
        *("tenant", "trace_id", "evaluator", "judge_version", "event_time"),
        name="uq_escalations_verdict",
        postgresql_nulls_not_distinct=True,
    ),
    one_of("state", ("waiting", "claimed", "done", "given_up"), "state"),
    Index(
        "ix_escalations_open",
        "priority",
        "id",
        postgresql_where=text("state in ('waiting', 'claimed')"),
    ),
    comment="Traces that wait for the pool, by value; a claim is a lease until available_at.",
    postgresql_with=UPDATED_IN_PLACE,
)

pool_spend = Table(
    "pool_spend",
    metadata,
    *key("tenant"),
    Column("day", Date, primary_key=True),
    *[counter(name) for name in ("calls", "settled", "tokens", "micro_usd")],
    *[counter(name) for name in ("prompt_tokens", "cached_tokens", "completion_tokens")],
    comment="What a tenant spent on the pool in a UTC day; calls not settled are charged at their upper estimate.",
    postgresql_with=UPDATED_IN_PLACE,
)
