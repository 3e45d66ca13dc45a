"""First verdicts by slice of the traffic, and the hours of each segment; what explains an alert, and who confirms it.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_SEGMENT = ("tenant", "service", "environment", "evaluator", "judge_version")
_KEY = (*_SEGMENT, "dimension", "value")
_VERDICT = ("tenant", "trace_id", "evaluator", "judge_version")
_ON_ALERTS = ("explanation", "confirmation")


def upgrade() -> None:
    op.create_table(
        "slice_rollups",
        *[sa.Column(name, sa.Text(), nullable=False) for name in _KEY],
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_total", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("first_hallucinated", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint(*_KEY, "minute", name="pk_slice_rollups"),
        comment="First verdicts per minute of event time, segment and value of a watched dimension.",
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "segment_hours",
        *[sa.Column(name, sa.Text(), nullable=False) for name in _SEGMENT],
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(*_SEGMENT, "hour", name="pk_segment_hours"),
        comment="Hours of event time in which a segment had a first verdict.",
    )
    op.create_index("ix_segment_hours_hour", "segment_hours", ["hour"])
    op.execute(
        f"insert into segment_hours select distinct {', '.join(_SEGMENT)}, date_trunc('hour', minute, 'UTC')"  # noqa: S608
        " from rollups where first_total > 0"
    )
    # Nullable: alerts raised before have none, and the release before goes on writing.
    for name in _ON_ALERTS:
        op.add_column("alerts", sa.Column(name, postgresql.JSONB(), nullable=True))
    op.create_table(
        "confirmation_samples",
        sa.Column("alert_id", sa.Text(), nullable=False),
        *[sa.Column(name, sa.Text(), nullable=False) for name in _VERDICT],
        sa.Column("later", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("alert_id", *_VERDICT, name="pk_confirmation_samples"),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alerts.alert_id"], name="fk_confirmation_samples_alert_id_alerts", ondelete="CASCADE"
        ),
        comment="Flagged answers, drawn at random from before and after a rise, for the pool to confirm it.",
    )
    op.drop_constraint(op.f("ck_outbox_state"), "outbox", type_="check")
    op.create_check_constraint(
        op.f("ck_outbox_state"), "outbox", "state in ('waiting', 'delivered', 'superseded', 'dead')"
    )


def downgrade() -> None:
    op.execute("update outbox set state = 'delivered' where state = 'superseded'")
    op.drop_constraint(op.f("ck_outbox_state"), "outbox", type_="check")
    op.create_check_constraint(op.f("ck_outbox_state"), "outbox", "state in ('waiting', 'delivered', 'dead')")
    op.drop_table("confirmation_samples")
    for name in _ON_ALERTS:
        op.drop_column("alerts", name)
    op.drop_table("segment_hours")
    op.drop_table("slice_rollups")
