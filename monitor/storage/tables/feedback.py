"""What became of answers, by those who used them."""

from sqlalchemy import CheckConstraint, Column, DateTime, Index, Table, Text, text

from monitor.storage.tables.columns import key, metadata, moment, one_of

feedback = Table(
    "feedback",
    metadata,
    *key("tenant", "feedback_id"),
    Column("trace_id", Text),
    Column("otel_trace_id", Text),
    moment("given_at"),
    Column("source", Text, nullable=False),
    Column("thumb", Text),
    Column("outcome", Text),
    Column("corrected_answer", Text),
    Column("comment", Text),
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    CheckConstraint("trace_id is not null or otel_trace_id is not null", name="answer"),
    one_of("source", ("end_user", "agent", "system"), "source"),
    one_of("thumb", ("up", "down"), "thumb"),
    Index("ix_feedback_given_at", "given_at", postgresql_using="brin"),
    Index(None, "tenant", "trace_id"),
    comment="What became of answers, by those who used them: the first word of each id. Never a label, in no rate.",
)

otel_traces = Table(
    "otel_traces",
    metadata,
    *key("tenant", "otel_trace_id", "trace_id"),
    moment("event_time", nullable=True),
    Index("ix_otel_traces_event_time", "event_time", postgresql_using="brin"),
    comment="Traces of an OpenTelemetry trace that do not bear its id: feedback may name either.",
)
