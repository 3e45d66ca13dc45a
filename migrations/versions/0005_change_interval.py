"""The interval of an alert's change point.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = ("change_earliest", "change_latest")


def upgrade() -> None:
    # Nullable: alerts raised before have none, and the release before goes on writing.
    for name in _COLUMNS:
        op.add_column("alerts", sa.Column(name, sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for name in _COLUMNS:
        op.drop_column("alerts", name)
