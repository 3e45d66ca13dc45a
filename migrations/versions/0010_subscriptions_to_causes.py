"""Subscriptions to alerts that one slice of the traffic explains.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nullable: null hears of all, and the release before goes on writing.
    op.add_column("subscriptions", sa.Column("cause", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("subscriptions", "cause")
