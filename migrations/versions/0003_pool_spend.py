"""What tenants spend on the pool, by UTC day, and its view for people.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

POOL_SPEND = """
create view report.pool_spend as
select
    tenant, day, calls, settled, tokens, micro_usd / 1e6::double precision as usd,
    prompt_tokens, cached_tokens, completion_tokens
from pool_spend
"""

_COUNTERS = ("calls", "settled", "tokens", "micro_usd", "prompt_tokens", "cached_tokens", "completion_tokens")


def upgrade() -> None:
    op.create_table(
        "pool_spend",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        *[sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False) for name in _COUNTERS],
        sa.PrimaryKeyConstraint("tenant", "day", name=op.f("pk_pool_spend")),
        comment="What a tenant spent on the pool in a UTC day; calls not settled are charged at their upper estimate.",
        postgresql_with={"fillfactor": 70},
    )
    op.execute(POOL_SPEND)


def downgrade() -> None:
    op.execute("drop view report.pool_spend")
    op.drop_table("pool_spend")
