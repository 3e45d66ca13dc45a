"""The life of an alert: pending, severity, reopening, silences.

The release before writes and reads this schema: it raises alerts that fire at once, which is what the defaults say.
It does not know the state `pending`, so `alerts.pending_seconds` stays 0 until all workers are of this release.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NEW = ("severity", "reopened", "damped", "worse", "state_since", "heard", "told_at", "resolved_at")
_NOW = sa.text("now()")


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    for column in (
        sa.Column("severity", sa.Text(), nullable=False, server_default=sa.text("'warning'")),
        sa.Column("reopened", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("damped", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("worse", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("state_since", moment, nullable=False, server_default=_NOW),
        sa.Column("heard", sa.Text(), nullable=True, server_default=sa.text("'firing'")),
        sa.Column("told_at", moment, nullable=False, server_default=_NOW),
        sa.Column("resolved_at", moment, nullable=True),
    ):
        op.add_column("alerts", column)
    # Every change so far was sent: nobody is owed a word about it.
    op.execute("update alerts set heard = state")
    op.create_check_constraint(op.f("ck_alerts_severity"), "alerts", "severity in ('warning', 'critical')")
    _states("'pending', 'firing', 'acknowledged', 'resolved'")
    op.create_index(
        "ix_alerts_unsettled",
        "alerts",
        ["alert_id"],
        postgresql_where=sa.text("state <> 'resolved' or damped or heard <> 'resolved'"),
    )
    op.add_column("alert_transitions", sa.Column("evidence", sa.Double(), nullable=True))
    op.add_column(
        "subscriptions", sa.Column("least_severity", sa.Text(), nullable=False, server_default=sa.text("'warning'"))
    )
    op.create_check_constraint(
        op.f("ck_subscriptions_least_severity"), "subscriptions", "least_severity in ('warning', 'critical')"
    )
    _create_silences()


def _create_silences() -> None:
    op.create_table(
        "silences",
        sa.Column("silence_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=True),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck_silences_order")),
        sa.PrimaryKeyConstraint("silence_id", name=op.f("pk_silences")),
        comment="Times in which alerts of these segments are kept from subscriptions; null matches all.",
    )
    op.create_index(op.f("ix_silences_tenant_ends_at"), "silences", ["tenant", "ends_at"])


def _states(listed: str) -> None:
    op.drop_constraint(op.f("ck_alerts_state"), "alerts", type_="check")
    op.create_check_constraint(op.f("ck_alerts_state"), "alerts", f"state in ({listed})")


def downgrade() -> None:
    op.drop_table("silences")
    op.drop_column("subscriptions", "least_severity")
    op.drop_column("alert_transitions", "evidence")
    op.drop_index("ix_alerts_unsettled", "alerts")
    op.execute("update alerts set state = 'firing' where state = 'pending'")
    _states("'firing', 'acknowledged', 'resolved'")
    for name in _NEW:
        op.drop_column("alerts", name)
