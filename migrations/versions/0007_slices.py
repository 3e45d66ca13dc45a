"""First verdicts by slice of the traffic, and what explains an alert.

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

_KEY = ("tenant", "service", "environment", "evaluator", "judge_version", "dimension", "value")


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
    # Nullable: alerts raised before have none, and the release before goes on writing.
    op.add_column("alerts", sa.Column("explanation", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("alerts", "explanation")
    op.drop_table("slice_rollups")
