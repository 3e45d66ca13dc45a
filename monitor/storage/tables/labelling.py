"""What people say of answers, and the random samples that they were asked about."""

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, ForeignKey, Table, Text, text

from monitor.storage.tables.columns import key, metadata, moment, one_of

label_draws = Table(
    "label_draws",
    metadata,
    *key("draw_id"),
    *[Column(name, Text, nullable=False) for name in ("tenant", "service", "environment", "evaluator")],
    moment("since"),
    moment("until"),
    Column("eligible", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("drawn_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    CheckConstraint("eligible > 0", name="eligible"),
    comment="Random samples of answers for people to label: whence, and out of how many.",
)

label_tasks = Table(
    "label_tasks",
    metadata,
    Column("draw_id", Text, ForeignKey("label_draws.draw_id", ondelete="CASCADE"), primary_key=True),
    *key("tenant", "trace_id"),
    comment="The answers of each draw.",
)

labels = Table(
    "labels",
    metadata,
    *key("tenant", "trace_id", "evaluator", "actor"),
    Column("label", Text, nullable=False),
    Column("note", Text, nullable=False, server_default=text("''")),
    Column("labelled_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    one_of("label", ("faithful", "hallucinated"), "label"),
    comment="What people say of answers: one row a person and answer, the last word of each.",
)
