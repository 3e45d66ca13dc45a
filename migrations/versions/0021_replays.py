"""Replays: traces judged anew by another version, beside the verdicts that there are.

The release before goes on writing: what it writes is of no replay.

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_COUNTS = """
    topic,
    partition,
    high_watermark - first_offset as accepted,
    verdicts,
    unjudged,
    dead_letters,
    duplicates,
    high_watermark - first_offset - verdicts - unjudged - dead_letters - duplicates as in_flight,
    pending,
    greatest(next_offset - first_offset, 0) - verdicts - unjudged - pending - dead_letters - duplicates as lost
from intake"""

OLD_BY_PARTITION = f"create or replace view report.accounting_by_partition as select {_COUNTS}"
BY_PARTITION = f"{OLD_BY_PARTITION} where not replays"
OF_REPLAYS = f"create view report.replay_accounting_by_partition as select {_COUNTS} where replays"

REPLAYS = """
create view report.replays as
select replay_id, created_at, actor, selection, judge_version, state, sent, refused, updated_at, finished_at
from replays
"""

_HISTORY = """
create {or_replace} view report.verdict_history as
select
    verdicts.tenant, verdicts.service, verdicts.environment, verdicts.trace_id,
    verdicts.evaluator, verdicts.judge_version, verdicts.event_time, verdicts.judged_at,
    verdicts.outcome, verdicts.label, verdicts.probability, verdicts.reason, verdicts.detail,
    verdicts.first_label, verdicts.first_probability, verdicts.revision, verdicts.revised_at,
    verdicts.reasoning, verdicts.unsupported, verdicts.decided_by,
    verdicts.action, verdicts.decision_reason, verdicts.inclusion_probability,
    traces.question, traces.answer, traces.documents, traces.generator_model, traces.prompt_version,
    traces.tags, traces.otel_trace_id, traces.otel_span_id, verdicts.sampling_probability{more}
from verdicts
left join traces using (tenant, trace_id, event_time)
"""


def upgrade() -> None:
    op.create_table(
        "replays",
        sa.Column("replay_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("selection", JSONB(), nullable=False),
        sa.Column("judge_version", sa.Text()),
        sa.Column("state", sa.Text(), nullable=False, server_default=sa.text("'sending'")),
        sa.Column("cursor", JSONB()),
        *[
            sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0"))
            for name in ("sent", "refused")
        ],
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("replay_id", name=op.f("pk_replays")),
        sa.CheckConstraint("state in ('sending', 'stopped', 'sent')", name=op.f("ck_replays_state")),
        comment="One row a replay: what is judged anew, by which version, and how far sending has come.",
        postgresql_with={"fillfactor": 70},
    )
    op.execute(BY_PARTITION)
    op.execute(OF_REPLAYS)
    op.execute(REPLAYS)
    op.execute(_HISTORY.format(or_replace="or replace", more=", verdicts.replay_id"))


def downgrade() -> None:
    # The release before cannot tell records of replays from others: they go, and the verdicts stay.
    op.execute("drop view report.replay_accounting_by_partition")
    op.execute("drop view report.replays")
    op.execute(OLD_BY_PARTITION)
    op.execute("drop view report.verdict_history")
    op.execute(
        "delete from receipt_ranges as kept using intake, topics where replays and topics.topic = intake.topic"
        " and kept.topic_id = topics.topic_id and kept.partition = intake.partition"
    )
    op.execute("delete from intake where replays")
    op.drop_table("replays")
    op.execute(_HISTORY.format(or_replace="", more=""))
