"""Subscriptions by other channels than our own webhook. Alert workers of the release before give such deliveries up.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_COMMENT = "{who}: who wants to hear of alerts on which segments; null matches all."


def upgrade() -> None:
    op.add_column("subscriptions", sa.Column("channel", sa.Text(), nullable=False, server_default=sa.text("'webhook'")))
    op.create_check_constraint(op.f("ck_subscriptions_channel"), "subscriptions", "channel in ('webhook', 'service')")
    op.create_table_comment("subscriptions", _COMMENT.format(who="Webhooks and services"))
    op.drop_constraint(op.f("ck_outbox_channel"), "outbox", type_="check")
    op.create_check_constraint(op.f("ck_outbox_channel"), "outbox", "channel in ('kafka', 'webhook', 'service')")
    op.drop_constraint(op.f("ck_outbox_webhook_has_subscription"), "outbox", type_="check")
    op.create_check_constraint(
        op.f("ck_outbox_kafka_has_no_subscription"), "outbox", "(channel = 'kafka') = (subscription_id is null)"
    )


def downgrade() -> None:
    # Cascades to their deliveries: the release before can speak to none of them.
    op.execute("delete from subscriptions where channel <> 'webhook'")
    op.drop_constraint(op.f("ck_outbox_kafka_has_no_subscription"), "outbox", type_="check")
    op.create_check_constraint(
        op.f("ck_outbox_webhook_has_subscription"), "outbox", "(channel = 'webhook') = (subscription_id is not null)"
    )
    op.drop_constraint(op.f("ck_outbox_channel"), "outbox", type_="check")
    op.create_check_constraint(op.f("ck_outbox_channel"), "outbox", "channel in ('kafka', 'webhook')")
    op.drop_constraint(op.f("ck_subscriptions_channel"), "subscriptions", type_="check")
    op.drop_column("subscriptions", "channel")
    op.create_table_comment("subscriptions", _COMMENT.format(who="Webhooks"))
