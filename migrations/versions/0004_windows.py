"""The windows in which a judge read documents that did not fit whole, and their column in the view for people.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JUDGEMENT_HISTORY = """
create {or_replace} view report.judgement_history as
select
    said.tenant, said.trace_id, said.evaluator, said.judge_version, said.sequence,
    said.judge, judges.name as judge_name, judges.tier, judges.model, judges.model_digest,
    judges.quantisation, judges.prompt_digest,
    said.judged_at, said.raw_score, said.probability, said.reason, said.detail, said.reasoning, said.unsupported,
    said.latency_us / 1e6::double precision as latency_seconds,
    said.prompt_tokens, said.completion_tokens, said.cost_usd, said.inclusion_probability, said.chosen_because{more}
from judgements as said
left join judges using (judge)
"""


def upgrade() -> None:
    # Nullable and without a default: no row is rewritten, and the release before goes on writing.
    op.add_column("judgements", sa.Column("windows", postgresql.JSONB(), nullable=True))
    op.execute(JUDGEMENT_HISTORY.format(or_replace="or replace", more=", said.windows"))


def downgrade() -> None:
    op.execute("drop view report.judgement_history")
    op.execute(JUDGEMENT_HISTORY.format(or_replace="", more=""))
    op.drop_column("judgements", "windows")
