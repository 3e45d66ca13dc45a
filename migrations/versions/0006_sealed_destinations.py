"""Webhooks' URLs and secrets, sealed.

The alert worker of this release reads both forms and seals what it finds plain; the release before reads only the plain
one. So alert workers are rolled out before anyone subscribes with the new command.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("subscriptions", sa.Column("sealed", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    # What is sealed cannot be unsealed here: its subscription would post to no one.
    op.execute("delete from subscriptions where sealed is not null")
    op.drop_column("subscriptions", "sealed")
