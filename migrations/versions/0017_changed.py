"""Which transaction changed a rollup last.

Revision ID: 0017
Revises: 0016
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table rollups add column changed xid8 not null default pg_current_xact_id()")


def downgrade() -> None:
    op.execute("alter table rollups drop column changed")
