"""How far each partition's event time has come, so that no minute is closed while its verdicts still wait in a topic.

Workers of the release before leave both columns null, and hold no minute open, as they did.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_BEFORE = "A partition's end as last seen, and its receipts counted by outcome."
_NOW = "A partition's end as last seen, its receipts counted by outcome, and how far its event time has come."


def upgrade() -> None:
    op.add_column("intake", sa.Column("newest_event_time", sa.DateTime(timezone=True)))
    op.add_column("intake", sa.Column("arrived_at", sa.DateTime(timezone=True)))
    op.create_table_comment("intake", _NOW)


def downgrade() -> None:
    op.create_table_comment("intake", _BEFORE)
    op.drop_column("intake", "arrived_at")
    op.drop_column("intake", "newest_event_time")
