"""The ledger's tables, as the code sees them. `migrations/` creates them; a test holds the two together.

Identity runs through all of them: `(tenant, trace_id)` is a trace, with `evaluator` and `judge_version` (that of
the whole cascade) one verdict. There are no foreign keys between the high-volume tables: each kind of row has a
retention of its own, and every batch is written by one transaction that knows all of them.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.elements import ColumnElement

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# Rows that are updated again and again leave room on their page, so that an update touches no index.
_UPDATED_IN_PLACE = {"fillfactor": 70}


def _one_of(column: str, values: Sequence[str], name: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=name)


def _share(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} between 0 and 1", name=column)


def _key(*names: str) -> list[Column[Any]]:
    return [Column(name, Text, primary_key=True) for name in names]


def _moment(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _segment() -> list[Column[Any]]:
    return [Column(name, Text, nullable=False) for name in ("tenant", "service", "environment")]


def _counter(name: str) -> Column[Any]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _position(*, primary_key: bool) -> list[Column[Any]]:
    return [
        Column("topic", Text, primary_key=primary_key, nullable=False),
        Column("partition", Integer, primary_key=primary_key, nullable=False, autoincrement=False),
        Column("offset", BigInteger, primary_key=primary_key, nullable=False, autoincrement=False),
    ]


traces = Table(
    "traces",
    metadata,
    *_key("tenant", "trace_id"),
    Column("service", Text, nullable=False),
    Column("environment", Text, nullable=False),
    _moment("event_time"),
    Column("question", Text, nullable=False),
    Column("documents", JSONB, nullable=False),
    Column("answer", Text, nullable=False),
    Column("generator_model", Text),
    Column("prompt_version", Text),
    Column("tags", JSONB, nullable=False),
    Column("otel_trace_id", Text),
    Column("otel_span_id", Text),
    comment="What was judged: the payload, apart from the verdicts because it is kept for a shorter time.",
)

verdicts = Table(
    "verdicts",
    metadata,
    *_key("tenant", "trace_id", "evaluator", "judge_version"),
    Column("service", Text, nullable=False),
    Column("environment", Text, nullable=False),
    _moment("event_time"),
    _moment("judged_at"),
    Column("outcome", Text, nullable=False),
    Column("label", Text),
    Column("probability", Double),
    Column("reason", Text),
    Column("detail", Text),
    Column("first_label", Text),
    Column("first_probability", Double),
    Column("revision", Integer, nullable=False, server_default=text("0")),
    _moment("revised_at", nullable=True),
    Column("reasoning", Text),
    Column("unsupported", JSONB, nullable=False),
    Column("decided_by", ARRAY(Text), nullable=False),
    Column("action", Text, nullable=False),
    Column("decision_reason", Text, nullable=False),
    Column("inclusion_probability", Double, nullable=False),
    _one_of("outcome", ("verdict", "unjudged", "pending"), "outcome"),
    _one_of("label", ("faithful", "hallucinated"), "label"),
    _one_of("first_label", ("faithful", "hallucinated"), "first_label"),
    CheckConstraint("(outcome = 'verdict') = (label is not null and probability is not null)", name="has_label"),
    CheckConstraint("(outcome = 'verdict') = (reason is null)", name="has_reason"),
    _share("probability"),
    _share("first_probability"),
    _share("inclusion_probability"),
    Index("ix_verdicts_event_time", "event_time", postgresql_using="brin"),
    comment="One row a judged trace. first_* is the local cascade's word and never changes; the rest is current.",
)

judges = Table(
    "judges",
    metadata,
    *_key("judge"),
    Column("name", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("model_digest", Text, nullable=False),
    Column("quantisation", Text),
    Column("prompt_digest", Text),
    comment="Who judged, exactly; `judge` is the version that stands for all the other columns.",
)

judgements = Table(
    "judgements",
    metadata,
    *_key("tenant", "trace_id", "evaluator", "judge_version"),
    Column("sequence", SmallInteger, primary_key=True, autoincrement=False),
    Column("judge", Text, nullable=False),
    _moment("judged_at"),
    Column("raw_score", Double),
    Column("probability", Double),
    Column("reason", Text),
    Column("detail", Text),
    Column("reasoning", Text),
    Column("unsupported", JSONB, nullable=False),
    Column("latency_us", BigInteger, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("cost_usd", Double, nullable=False),
    Column("inclusion_probability", Double, nullable=False),
    Column("chosen_because", Text, nullable=False),
    Column("windows", JSONB),
    CheckConstraint("(raw_score is null) = (reason is not null)", name="scored_or_not"),
    _share("probability"),
    _share("inclusion_probability"),
    comment="One row a judge's word, in the order in which they spoke; reason says why there is no score.",
)

receipts = Table(
    "receipts",
    metadata,
    *_position(primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("tenant", Text),
    Column("trace_id", Text),
    _one_of("outcome", ("verdict", "unjudged", "pending", "dead_letter", "duplicate"), "outcome"),
    comment="One row a consumed record of the traces topic: what became of it.",
)

intake = Table(
    "intake",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    _counter("first_offset"),
    _counter("high_watermark"),
    _counter("next_offset"),
    *[_counter(name) for name in ("verdicts", "unjudged", "pending", "dead_letters", "duplicates")],
    comment="A partition's end as last seen, and its receipts counted by outcome.",
    postgresql_with=_UPDATED_IN_PLACE,
)

dead_letters = Table(
    "dead_letters",
    metadata,
    *_position(primary_key=True),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("field", Text),
    Column("raw", LargeBinary, nullable=False),
    Column("raw_bytes", BigInteger, nullable=False),
    _moment("dead_at"),
    comment="Records that could not be taken in, by the place where they lay; raw may be cut, raw_bytes is not.",
)

rollups = Table(
    "rollups",
    metadata,
    *_key("tenant", "service", "environment", "evaluator", "judge_version"),
    Column("minute", DateTime(timezone=True), primary_key=True),
    *[_counter(name) for name in ("traces", "total", "hallucinated", "unjudged", "pending")],
    *[_counter(name) for name in ("first_total", "first_hallucinated", "escalated", "pool_judged")],
    Column("sum_probability", Numeric, nullable=False, server_default=text("0")),
    _counter("local_latency_us"),
    _counter("pool_latency_us"),
    _moment("last_event_time"),
    Column("folded_total", BigInteger),
    Column("folded_hallucinated", BigInteger),
    Index(
        "ix_rollups_unfolded",
        *("tenant", "service", "environment", "evaluator", "judge_version", "minute"),
        postgresql_where=text("folded_total is null"),
    ),
    comment="Counts per minute of event time and segment. Always equal to a recount of verdicts and judgements.",
    postgresql_with=_UPDATED_IN_PLACE,
)

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
    _moment("finished_at", nullable=True),
    Column("last_error", Text),
    UniqueConstraint("tenant", "trace_id", "evaluator", "judge_version"),
    _one_of("state", ("waiting", "claimed", "done", "given_up"), "state"),
    Index(
        "ix_escalations_open",
        "priority",
        "id",
        postgresql_where=text("state in ('waiting', 'claimed')"),
    ),
    comment="Traces that wait for the pool, by value; a claim is a lease until available_at.",
    postgresql_with=_UPDATED_IN_PLACE,
)

pool_spend = Table(
    "pool_spend",
    metadata,
    *_key("tenant"),
    Column("day", Date, primary_key=True),
    *[_counter(name) for name in ("calls", "settled", "tokens", "micro_usd")],
    *[_counter(name) for name in ("prompt_tokens", "cached_tokens", "completion_tokens")],
    comment="What a tenant spent on the pool in a UTC day; calls not settled are charged at their upper estimate.",
    postgresql_with=_UPDATED_IN_PLACE,
)

drift_states = Table(
    "drift_states",
    metadata,
    *_key("tenant", "service", "environment", "evaluator", "judge_version"),
    Column("state", JSONB, nullable=False),
    _moment("folded_through"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    comment="A detector's whole memory, and the last minute that it has seen.",
    postgresql_with=_UPDATED_IN_PLACE,
)

alerts = Table(
    "alerts",
    metadata,
    *_key("alert_id"),
    *_segment(),
    Column("evaluator", Text, nullable=False),
    Column("judge_version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("direction", Text, nullable=False),
    _moment("event_time"),
    _moment("change_at"),
    Column("evidence", Double, nullable=False),
    Column("rate_before", Double, nullable=False),
    Column("rate_after", Double, nullable=False),
    Column("verdicts_seen", BigInteger, nullable=False),
    Column("delay_verdicts", BigInteger, nullable=False),
    Column("average_run_length", Double, nullable=False),
    _moment("raised_at"),
    _moment("change_earliest", nullable=True),
    _moment("change_latest", nullable=True),
    _one_of("state", ("firing", "acknowledged", "resolved"), "state"),
    _one_of("direction", ("rise", "fall"), "direction"),
    Index(None, "tenant", "service", "environment", "raised_at"),
    comment="One row an alarm on a segment, with its current state.",
)

alert_transitions = Table(
    "alert_transitions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("alert_id", Text, ForeignKey("alerts.alert_id", ondelete="CASCADE"), nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    _moment("at"),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False, server_default=text("''")),
    Index(None, "alert_id"),
    comment="How an alert came to its state, and by whose hand.",
)

subscriptions = Table(
    "subscriptions",
    metadata,
    *_key("subscription_id"),
    Column("tenant", Text, nullable=False),
    Column("service", Text),
    Column("environment", Text),
    Column("url", Text, nullable=False),
    Column("secret", Text),
    Column("sealed", LargeBinary),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    comment="Webhooks: who wants to hear of alerts on which segments; null matches all.",
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("alert_id", Text, ForeignKey("alerts.alert_id", ondelete="CASCADE"), nullable=False),
    Column("channel", Text, nullable=False),
    Column("subscription_id", Text, ForeignKey("subscriptions.subscription_id", ondelete="CASCADE")),
    Column("payload", JSONB, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("last_error", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    _moment("finished_at", nullable=True),
    _one_of("channel", ("kafka", "webhook"), "channel"),
    _one_of("state", ("waiting", "delivered", "dead"), "state"),
    CheckConstraint("(channel = 'webhook') = (subscription_id is not null)", name="webhook_has_subscription"),
    Index("ix_outbox_open", "next_at", "id", postgresql_where=text("state = 'waiting'")),
    comment="Deliveries still to be made, written in the transaction that raised the alert.",
    postgresql_with=_UPDATED_IN_PLACE,
)


def in_seconds(seconds: float) -> ColumnElement[Any]:
    """That many seconds from now, by the database's clock: the workers' clocks need not agree."""
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
