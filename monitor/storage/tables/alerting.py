"""What drift detection remembers, the alerts that it raised, and who hears of them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from monitor.storage.tables.columns import UPDATED_IN_PLACE, key, metadata, moment, one_of, segment

drift_states = Table(
    "drift_states",
    metadata,
    *key("tenant", "service", "environment", "evaluator", "judge_version"),
    Column("state", JSONB, nullable=False),
    moment("folded_through"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    comment="A detector's whole memory, and the last minute that it has seen.",
    postgresql_with=UPDATED_IN_PLACE,
)

slice_states = Table(
    "slice_states",
    metadata,
    *key("tenant", "service", "environment", "evaluator", "judge_version", "dimension", "value"),
    Column("state", JSONB, nullable=False),
    moment("folded_through"),
    comment="The memory of the detector of each watched slice, written with that of its segment.",
    postgresql_with=UPDATED_IN_PLACE,
)

# What may yet fall due: whatever is open or flaps, and what subscriptions believe to be open.
UNSETTLED = "state <> 'resolved' or damped or heard <> 'resolved'"

alerts = Table(
    "alerts",
    metadata,
    *key("alert_id"),
    *segment(),
    Column("evaluator", Text, nullable=False),
    Column("judge_version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("direction", Text, nullable=False),
    moment("event_time"),
    moment("change_at"),
    Column("evidence", Double, nullable=False),
    Column("rate_before", Double, nullable=False),
    Column("rate_after", Double, nullable=False),
    Column("verdicts_seen", BigInteger, nullable=False),
    Column("delay_verdicts", BigInteger, nullable=False),
    Column("average_run_length", Double, nullable=False),
    moment("raised_at"),
    moment("change_earliest", nullable=True),
    moment("change_latest", nullable=True),
    Column("explanation", JSONB),
    Column("confirmation", JSONB),
    Column("severity", Text, nullable=False, server_default=text("'warning'")),
    Column("reopened", Integer, nullable=False, server_default=text("0")),
    Column("damped", Boolean, nullable=False, server_default=text("false")),
    Column("worse", Boolean, nullable=False, server_default=text("false")),
    Column("state_since", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("heard", Text, server_default=text("'firing'")),
    Column("told_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    moment("resolved_at", nullable=True),
    Column("dimension", Text),
    Column("value", Text),
    CheckConstraint("(dimension is null) = (value is null)", name="slice"),
    one_of("state", ("pending", "firing", "acknowledged", "resolved"), "state"),
    one_of("direction", ("rise", "fall"), "direction"),
    one_of("severity", ("warning", "critical"), "severity"),
    Index(None, "tenant", "service", "environment", "raised_at"),
    Index("ix_alerts_unsettled", "alert_id", postgresql_where=text(UNSETTLED)),
    comment="One row an alarm on a segment, with its current state.",
)

alert_transitions = Table(
    "alert_transitions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("alert_id", Text, ForeignKey("alerts.alert_id", ondelete="CASCADE"), nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    moment("at"),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False, server_default=text("''")),
    Column("evidence", Double),
    Index(None, "alert_id"),
    comment="How an alert came to its state, and by whose hand.",
)

confirmation_samples = Table(
    "confirmation_samples",
    metadata,
    Column("alert_id", Text, ForeignKey("alerts.alert_id", ondelete="CASCADE"), primary_key=True),
    *key("tenant", "trace_id", "evaluator", "judge_version"),
    Column("later", Boolean, nullable=False),
    comment="Flagged answers, drawn at random from before and after a rise, for the pool to confirm it.",
)

subscriptions = Table(
    "subscriptions",
    metadata,
    *key("subscription_id"),
    Column("tenant", Text, nullable=False),
    Column("service", Text),
    Column("environment", Text),
    Column("url", Text, nullable=False),
    Column("secret", Text),
    Column("sealed", LargeBinary),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("least_severity", Text, nullable=False, server_default=text("'warning'")),
    Column("cause", Text),
    Column("channel", Text, nullable=False, server_default=text("'webhook'")),
    one_of("least_severity", ("warning", "critical"), "least_severity"),
    one_of("channel", ("webhook", "service"), "channel"),
    comment="Webhooks and services: who wants to hear of alerts on which segments; null matches all.",
)

silences = Table(
    "silences",
    metadata,
    *key("silence_id"),
    Column("tenant", Text, nullable=False),
    Column("service", Text),
    Column("environment", Text),
    moment("starts_at"),
    moment("ends_at"),
    Column("reason", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    moment("ended_at", nullable=True),
    Column("ended_by", Text),
    CheckConstraint("starts_at < ends_at", name="order"),
    Index(None, "tenant", "ends_at"),
    comment="Times in which alerts of these segments are kept from subscriptions; null matches all.",
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
    moment("finished_at", nullable=True),
    one_of("channel", ("kafka", "webhook", "service"), "channel"),
    one_of("state", ("waiting", "delivered", "superseded", "dead"), "state"),
    CheckConstraint("(channel = 'kafka') = (subscription_id is null)", name="kafka_has_no_subscription"),
    Index("ix_outbox_open", "next_at", "id", postgresql_where=text("state = 'waiting'")),
    comment="Deliveries still to be made, written in the transaction that raised the alert.",
    postgresql_with=UPDATED_IN_PLACE,
)
