"""Where the partitions of the traces topic begin and end, as Kafka says: detectors wait for what lies there.

Revision ID: 0028
Revises: 0027

The drift worker of the release before does not know the table, and waits for what it waited for.
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "soundings",
        sa.Column("topic", sa.Text(), primary_key=True),
        sa.Column("partition", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("beginning", sa.BigInteger(), nullable=False),
        sa.Column("ending", sa.BigInteger()),
        sa.Column("sounded_at", sa.DateTime(timezone=True), nullable=False),
        comment="Which offsets Kafka had in a partition of the traces topic when last asked; null: it did not say.",
        postgresql_with={"fillfactor": 70},
    )


def downgrade() -> None:
    op.drop_table("soundings")
