"""What was sent to be judged anew."""

from sqlalchemy import BigInteger, Column, DateTime, Identity, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from monitor.storage.tables.columns import UPDATED_IN_PLACE, counter, metadata, moment, one_of

replays = Table(
    "replays",
    metadata,
    Column("replay_id", BigInteger, Identity(), primary_key=True),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("actor", Text, nullable=False),
    Column("selection", JSONB, nullable=False),
    Column("judge_version", Text),
    Column("state", Text, nullable=False, server_default=text("'sending'")),
    # Without a cursor it begins at the beginning: that is SQL's null, not JSON's.
    Column("cursor", JSONB(none_as_null=True)),
    *[counter(name) for name in ("sent", "refused")],
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    moment("finished_at", nullable=True),
    Column("places", JSONB(none_as_null=True)),
    one_of("state", ("sending", "stopped", "sent"), "state"),
    comment="One row a replay: what is judged anew, by which version, and how far sending has come.",
    postgresql_with=UPDATED_IN_PLACE,
)
