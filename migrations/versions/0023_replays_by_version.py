"""Each judge version reads the topic of replays for itself; a dead letter that was sent again knows its replay.

Revision ID: 0023
Revises: 0022

The release before goes on writing: what it sends has no places, and the dead letters that it sends no replay's name.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_OF_REPLAYS = """
create or replace view report.replay_accounting_by_partition as select
    topic,
    partition,
    high_watermark - first_offset as accepted,
    verdicts,
    unjudged,
    dead_letters,
    duplicates,
    high_watermark - first_offset - verdicts - unjudged - dead_letters - duplicates as in_flight,
    pending,
    {lost} as lost
from intake where replays
"""
_PASSED_OVER = "greatest(next_offset - first_offset, 0) - verdicts - unjudged - pending - dead_letters - duplicates"


def upgrade() -> None:
    op.add_column("replays", sa.Column("places", JSONB()))
    op.add_column("dead_letters", sa.Column("replayed_by", sa.BigInteger()))
    # What one version's worker has passed over may be another's, which comes by at its own pace: nothing tells a loss.
    op.execute(_OF_REPLAYS.format(lost="null::bigint"))


def downgrade() -> None:
    op.execute(_OF_REPLAYS.format(lost=_PASSED_OVER))
    op.drop_column("dead_letters", "replayed_by")
    op.drop_column("replays", "places")
