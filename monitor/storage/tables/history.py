"""What was judged, and what became of every record: a partition a day, and words that repeat by number.

To be written. What is read are the views of `reading`, which put the words back.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from monitor.storage.tables.columns import (
    SEGMENT_WORDS,
    UPDATED_IN_PLACE,
    XID8,
    counter,
    key,
    metadata,
    moment,
    one_of,
    position,
    share,
)


def number(name: str) -> Column[Any]:
    """The number that a dictionary gives to its words."""
    return Column(name, Integer, Identity(), primary_key=True)


segments = Table(
    "segments",
    metadata,
    number("segment_id"),
    *[Column(name, Text, nullable=False) for name in SEGMENT_WORDS],
    UniqueConstraint(*SEGMENT_WORDS),
    comment="What verdicts are kept for, by number: a segment under one evaluator and judge version.",
)

decisions = Table(
    "decisions",
    metadata,
    number("decision_id"),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_by", ARRAY(Text), nullable=False),
    UniqueConstraint("action", "reason", "decided_by"),
    comment="What a policy decided, why, and which judges carried weight, by number.",
)

choices = Table(
    "choices",
    metadata,
    number("choice_id"),
    Column("judge", Text, nullable=False),
    Column("chosen_because", Text, nullable=False),
    UniqueConstraint("judge", "chosen_because"),
    comment="A judge, and why it was asked, by number.",
)

topics = Table(
    "topics",
    metadata,
    number("topic_id"),
    Column("topic", Text, nullable=False),
    UniqueConstraint("topic"),
    comment="Lives of topics, by number.",
)

payloads = Table(
    "payloads",
    metadata,
    Column("trace_id", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("event_time", DateTime(timezone=True), primary_key=True),
    Column("service", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("documents", JSONB, nullable=False),
    Column("answer", Text, nullable=False),
    Column("generator_model", Text),
    Column("prompt_version", Text),
    Column("tags", JSONB, nullable=False),
    Column("otel_trace_id", Text),
    Column("otel_span_id", Text),
    comment="What was judged: the payload, apart from the verdicts because it is kept for a shorter time.",
    postgresql_partition_by="range (event_time)",
)

verdict_rows = Table(
    "verdict_rows",
    metadata,
    Column("verdict_id", BigInteger, primary_key=True, autoincrement=False),
    Column("event_time", DateTime(timezone=True), primary_key=True),
    moment("judged_at"),
    Column("offset", BigInteger, nullable=False),
    Column("probability", Double),
    Column("first_probability", Double),
    Column("inclusion_probability", Double, nullable=False),
    Column("sampling_probability", Double),
    moment("revised_at", nullable=True),
    Column("replay_id", BigInteger),
    *[Column(name, Integer, nullable=False) for name in ("segment_id", "decision_id", "topic_id", "partition")],
    Column("revision", Integer, nullable=False, server_default=text("0")),
    Column("outcome", Text, nullable=False),
    Column("escalated", Boolean, nullable=False),
    Column("hallucinated", Boolean),
    Column("first_hallucinated", Boolean),
    Column("trace_id", Text, nullable=False),
    *[Column(name, Text) for name in ("reason", "detail", "reasoning")],
    Column("unsupported", JSONB),
    UniqueConstraint("trace_id", "segment_id", "event_time"),
    one_of("outcome", ("v", "u", "p"), "outcome"),
    CheckConstraint("(outcome = 'v') = (hallucinated is not null and probability is not null)", name="has_label"),
    CheckConstraint("(outcome = 'v') = (reason is null)", name="has_reason"),
    share("probability"),
    share("first_probability"),
    share("inclusion_probability"),
    CheckConstraint("sampling_probability > 0 and sampling_probability <= 1", name="sampling_probability"),
    Index("ix_verdict_rows_escalated", "event_time", postgresql_where=text("escalated")),
    Index("ix_verdict_rows_revised", "event_time", postgresql_where=text("revision > 0")),
    Index("ix_verdict_rows_unjudged", "event_time", postgresql_where=text("outcome <> 'v'")),
    Index(
        "ix_verdict_rows_event_time", "event_time", postgresql_using="brin", postgresql_with={"pages_per_range": "16"}
    ),
    comment="One row a judged trace. first_* is the local cascade's word and never changes; the rest is current."
    " No sampling probability is 1.",
    postgresql_partition_by="range (event_time)",
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

judgement_rows = Table(
    "judgement_rows",
    metadata,
    Column("verdict_id", BigInteger, primary_key=True, autoincrement=False),
    Column("sequence", SmallInteger, primary_key=True, autoincrement=False),
    Column("event_time", DateTime(timezone=True), primary_key=True),
    moment("judged_at"),
    Column("raw_score", Double),
    Column("probability", Double),
    Column("latency_us", BigInteger, nullable=False),
    Column("cost_usd", Double),
    Column("inclusion_probability", Double),
    *[Column(name, Integer, nullable=False) for name in ("segment_id", "choice_id")],
    *[Column(name, Integer) for name in ("prompt_tokens", "completion_tokens")],
    *[Column(name, Text) for name in ("reason", "detail", "reasoning")],
    Column("unsupported", JSONB),
    Column("windows", JSONB),
    CheckConstraint("(raw_score is null) = (reason is not null)", name="scored_or_not"),
    share("probability"),
    share("inclusion_probability"),
    comment="One row a judge's word, in the order in which they spoke; reason says why there is no score."
    " No inclusion probability is 1, no cost and no tokens are 0.",
    postgresql_partition_by="range (event_time)",
)

receipt_ranges = Table(
    "receipt_ranges",
    metadata,
    *[
        Column(name, kind, primary_key=True, autoincrement=False)
        for name, kind in (("topic_id", Integer), ("partition", Integer), ("first_offset", BigInteger))
    ],
    Column("outcomes", Text, nullable=False),
    CheckConstraint("outcomes ~ '^[vupdx][vupdx-]*$' and length(outcomes) <= 2048", name="outcomes"),
    comment="What became of consumed records, a character an offset: verdict, unjudged, pending, dead letter,"
    " x: duplicate, -: not here.",
)

duplicates = Table(
    "duplicates",
    metadata,
    *[
        Column(name, kind, primary_key=True, autoincrement=False)
        for name, kind in (("topic_id", Integer), ("partition", Integer), ("offset", BigInteger))
    ],
    Column("tenant", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    moment("event_time", nullable=True),
    Index(None, "tenant", "trace_id"),
    Index("ix_duplicates_event_time", "event_time", postgresql_using="brin"),
    comment="Records with the id of a trace that had been taken in.",
)

expirations = Table(
    "expirations",
    metadata,
    *key("kind", "tenant"),
    moment("before"),
    moment("done", nullable=True),
    Column("seen", XID8),
    one_of("kind", ("payloads", "verdicts"), "kind"),
    comment="Up to which event time retention has taken rows away; the tenant * stands for all that have no row of"
    " their own.",
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
    Column(
        "replays",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="Of the topic of replays, which the accounting of traces leaves out.",
    ),
    comment="A partition's end as last seen, its receipts counted by outcome, and how far its event time has come.",
    postgresql_with=UPDATED_IN_PLACE,
)

soundings = Table(
    "soundings",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("beginning", BigInteger, nullable=False),
    Column("ending", BigInteger),
    moment("sounded_at"),
    comment="Which offsets Kafka had in a partition of the traces topic when last asked; null: it did not say.",
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
    Column("replayed_by", BigInteger),
    Index("ix_dead_letters_dead_at", "dead_at", postgresql_using="brin"),
    comment="Records that could not be taken in, by the place where they lay; raw may be cut, raw_bytes is not.",
)
