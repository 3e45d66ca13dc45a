"""What was judged, and what became of every record."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from monitor.storage.tables.columns import UPDATED_IN_PLACE, counter, key, metadata, moment, one_of, position, share

traces = Table(
    "traces",
    metadata,
    *key("tenant", "trace_id"),
    Column("service", Text, nullable=False),
    Column("environment", Text, nullable=False),
    moment("event_time"),
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
    *key("tenant", "trace_id", "evaluator", "judge_version"),
    Column("service", Text, nullable=False),
    Column("environment", Text, nullable=False),
    moment("event_time"),
    moment("judged_at"),
    Column("outcome", Text, nullable=False),
    Column("label", Text),
    Column("probability", Double),
    Column("reason", Text),
    Column("detail", Text),
    Column("first_label", Text),
    Column("first_probability", Double),
    Column("revision", Integer, nullable=False, server_default=text("0")),
    moment("revised_at", nullable=True),
    Column("reasoning", Text),
    Column("unsupported", JSONB, nullable=False),
    Column("decided_by", ARRAY(Text), nullable=False),
    Column("action", Text, nullable=False),
    Column("decision_reason", Text, nullable=False),
    Column("inclusion_probability", Double, nullable=False),
    Column(
        "sampling_probability",
        Double,
        nullable=False,
        server_default=text("1"),
        comment="With which the trace was kept before it was judged: it stands for as many as the inverse says.",
    ),
    one_of("outcome", ("verdict", "unjudged", "pending"), "outcome"),
    one_of("label", ("faithful", "hallucinated"), "label"),
    one_of("first_label", ("faithful", "hallucinated"), "first_label"),
    CheckConstraint("(outcome = 'verdict') = (label is not null and probability is not null)", name="has_label"),
    CheckConstraint("(outcome = 'verdict') = (reason is null)", name="has_reason"),
    share("probability"),
    share("first_probability"),
    share("inclusion_probability"),
    CheckConstraint("sampling_probability > 0 and sampling_probability <= 1", name="sampling_probability"),
    Index("ix_verdicts_event_time", "event_time", postgresql_using="brin"),
    Index(
        "ix_verdicts_trusted",
        "event_time",
        postgresql_where=text("action = 'escalate' and inclusion_probability > 0"),
    ),
    comment="One row a judged trace. first_* is the local cascade's word and never changes; the rest is current.",
)

judges = Table(
    "judges",
    metadata,
    *key("judge"),
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
    *key("tenant", "trace_id", "evaluator", "judge_version"),
    Column("sequence", SmallInteger, primary_key=True, autoincrement=False),
    Column("judge", Text, nullable=False),
    moment("judged_at"),
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
    share("probability"),
    share("inclusion_probability"),
    comment="One row a judge's word, in the order in which they spoke; reason says why there is no score.",
)

receipts = Table(
    "receipts",
    metadata,
    *position(primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("tenant", Text),
    Column("trace_id", Text),
    one_of("outcome", ("verdict", "unjudged", "pending", "dead_letter", "duplicate"), "outcome"),
    comment="One row a consumed record of the traces topic: what became of it.",
)

intake = Table(
    "intake",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    counter("first_offset"),
    counter("high_watermark"),
    counter("next_offset"),
    *[counter(name) for name in ("verdicts", "unjudged", "pending", "dead_letters", "duplicates")],
    Column("newest_event_time", DateTime(timezone=True)),
    Column("arrived_at", DateTime(timezone=True)),
    comment="A partition's end as last seen, its receipts counted by outcome, and how far its event time has come.",
    postgresql_with=UPDATED_IN_PLACE,
)

dead_letters = Table(
    "dead_letters",
    metadata,
    *position(primary_key=True),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("field", Text),
    Column("raw", LargeBinary, nullable=False),
    Column("raw_bytes", BigInteger, nullable=False),
    moment("dead_at"),
    comment="Records that could not be taken in, by the place where they lay; raw may be cut, raw_bytes is not.",
)

slice_rollups = Table(
    "slice_rollups",
    metadata,
    *key("tenant", "service", "environment", "evaluator", "judge_version", "dimension", "value"),
    Column("minute", DateTime(timezone=True), primary_key=True),
    *[counter(name) for name in ("first_total", "first_hallucinated")],
    comment="First verdicts per minute of event time, segment and value of a watched dimension.",
    postgresql_with=UPDATED_IN_PLACE,
)

segment_hours = Table(
    "segment_hours",
    metadata,
    *key("tenant", "service", "environment", "evaluator", "judge_version"),
    Column("hour", DateTime(timezone=True), primary_key=True),
    Index(None, "hour"),
    comment="Hours of event time in which a segment had a first verdict.",
)

rollups = Table(
    "rollups",
    metadata,
    *key("tenant", "service", "environment", "evaluator", "judge_version"),
    Column("minute", DateTime(timezone=True), primary_key=True),
    *[counter(name) for name in ("traces", "total", "hallucinated", "unjudged", "pending")],
    *[counter(name) for name in ("first_total", "first_hallucinated", "escalated", "pool_judged")],
    Column("sum_probability", Numeric, nullable=False, server_default=text("0")),
    Column(
        "left_out",
        Numeric,
        nullable=False,
        server_default=text("0"),
        comment="Traces that sampling left out, as estimated from those that it kept: the sum of 1 / p - 1.",
    ),
    counter("local_latency_us"),
    counter("pool_latency_us"),
    moment("last_event_time"),
    # What rates are made from; `first_weighed` is `first_total` where they hold all first verdicts of the minute.
    *[counter(name) for name in ("first_weighed", "first_unreachable")],
    *[
        Column(f"first_{name}", Numeric, nullable=False, server_default=text("0"))
        for name in ("weight", "weight_squares", "hallucinated_weight", "hallucinated_weight_squares")
    ],
    moment("first_last_event_time", nullable=True),
    Column("folded_total", BigInteger),
    Column("folded_hallucinated", BigInteger),
    Index(
        "ix_rollups_unfolded",
        *("tenant", "service", "environment", "evaluator", "judge_version", "minute"),
        postgresql_where=text("folded_total is null"),
    ),
    comment="Counts per minute of event time and segment. Always equal to a recount of verdicts and judgements.",
    postgresql_with=UPDATED_IN_PLACE,
)

trusted_hours = Table(
    "trusted_hours",
    metadata,
    *key("tenant", "service", "environment", "evaluator", "judge_version"),
    Column("hour", DateTime(timezone=True), primary_key=True),
    *[Column(name, Boolean, primary_key=True) for name in ("said", "truth")],
    Column("n", BigInteger, nullable=False),
    *[Column(name, Numeric, nullable=False) for name in ("wx", "qx", "qxx")],
    Index(None, "hour"),
    comment="What the pool's words of an hour of event time add to rates; dropped when one comes, and made anew.",
)
