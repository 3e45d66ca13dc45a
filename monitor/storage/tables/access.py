"""Who may read, and what: see docs/tenancy.md."""

from sqlalchemy import CheckConstraint, Column, DateTime, Double, Table, text

from monitor.storage.tables.columns import key, metadata

readers = Table(
    "readers",
    metadata,
    *key("role_name"),
    Column("statement_seconds", Double, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    CheckConstraint("statement_seconds > 0", name="statement_seconds"),
    comment="Login roles that read `report`, and for how long one query of theirs may run.",
)

reader_tenants = Table(
    "reader_tenants",
    metadata,
    *key("role_name", "tenant"),
    comment="Tenants whose rows a role sees, readers and writers alike; '*' are all, those to come included.",
)
