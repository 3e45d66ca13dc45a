"""Feedback on answers, and what can be asked of it beside the verdicts.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# An id of OpenTelemetry's stands for every answer of that trace. The answer's own id, where it is known, says more.
FEEDBACK = """
create view report.feedback as
select
    said.tenant, said.feedback_id, answer.service, answer.environment,
    coalesce(answer.trace_id, said.trace_id) as trace_id, said.otel_trace_id, answer.joined_by,
    said.given_at, said.recorded_at, said.source, said.thumb, said.outcome, said.corrected_answer, said.comment,
    answer.evaluator, answer.judge_version, answer.event_time, answer.label, answer.probability
from feedback as said
left join lateral (
    select own.*, 'trace_id' as joined_by
    from verdicts as own
    where own.tenant = said.tenant and own.trace_id = said.trace_id
    union all
    select of_trace.*, 'otel_trace_id'
    from (
        select said.otel_trace_id as trace_id
        union
        select trace_id from otel_traces
        where otel_traces.tenant = said.tenant and otel_traces.otel_trace_id = said.otel_trace_id
    ) as meant
    join verdicts as of_trace on of_trace.tenant = said.tenant and of_trace.trace_id = meant.trace_id
    where not exists (
        select from verdicts as own where own.tenant = said.tenant and own.trace_id = said.trace_id
    )
) as answer on true
"""

# Whatever has no verdict has no label; '' stands for it where rows are matched.
OUTCOMES = """
create view report.outcomes_per_day as
with said as (
    select
        tenant, service, environment, evaluator, judge_version, date_trunc('day', event_time, 'UTC') as day,
        coalesce(label, '') as label, trace_id, thumb, outcome, corrected_answer is not null as corrected
    from report.feedback
    where joined_by is not null
), answered as (
    select
        tenant, service, environment, evaluator, judge_version, day, label,
        count(distinct trace_id) as with_feedback,
        count(distinct trace_id) filter (where thumb = 'up') as thumbs_up,
        count(distinct trace_id) filter (where thumb = 'down') as thumbs_down,
        count(distinct trace_id) filter (where corrected) as corrected
    from said
    group by tenant, service, environment, evaluator, judge_version, day, label
), followed as (
    select
        tenant, service, environment, evaluator, judge_version, day, label,
        jsonb_object_agg(outcome, answers) as outcomes
    from (
        select
            tenant, service, environment, evaluator, judge_version, day, label, outcome,
            count(distinct trace_id) as answers
        from said
        where outcome is not null
        group by tenant, service, environment, evaluator, judge_version, day, label, outcome
    ) as counted
    group by tenant, service, environment, evaluator, judge_version, day, label
), judged as (
    select
        tenant, service, environment, evaluator, judge_version, date_trunc('day', minute, 'UTC') as day,
        of_label.label, sum(of_label.answers)::bigint as answers
    from rollups
    cross join lateral (
        values ('faithful', total - hallucinated), ('hallucinated', hallucinated), ('', traces - total)
    ) as of_label (label, answers)
    group by tenant, service, environment, evaluator, judge_version, day, of_label.label
)
select
    tenant, service, environment, evaluator, judge_version, day, nullif(label, '') as label,
    answers,
    coalesce(with_feedback, 0) as with_feedback,
    coalesce(thumbs_up, 0) as thumbs_up,
    coalesce(thumbs_down, 0) as thumbs_down,
    coalesce(corrected, 0) as corrected,
    coalesce(outcomes, '{}') as outcomes
from judged
left join answered using (tenant, service, environment, evaluator, judge_version, day, label)
left join followed using (tenant, service, environment, evaluator, judge_version, day, label)
where answers > 0
"""


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("feedback_id", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.Column("otel_trace_id", sa.Text(), nullable=True),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        *[sa.Column(name, sa.Text(), nullable=True) for name in ("thumb", "outcome", "corrected_answer", "comment")],
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("tenant", "feedback_id", name=op.f("pk_feedback")),
        sa.CheckConstraint("trace_id is not null or otel_trace_id is not null", name=op.f("ck_feedback_answer")),
        sa.CheckConstraint("source in ('end_user', 'agent', 'system')", name=op.f("ck_feedback_source")),
        sa.CheckConstraint("thumb in ('up', 'down')", name=op.f("ck_feedback_thumb")),
        comment="What became of answers, by those who used them: the first word of each id. Never a label, in no rate.",
    )
    op.create_index("ix_feedback_given_at", "feedback", ["given_at"], postgresql_using="brin")
    op.create_index(op.f("ix_feedback_tenant_trace_id"), "feedback", ["tenant", "trace_id"])
    op.create_table(
        "otel_traces",
        *[sa.Column(name, sa.Text(), nullable=False) for name in ("tenant", "otel_trace_id", "trace_id")],
        sa.PrimaryKeyConstraint("tenant", "otel_trace_id", "trace_id", name=op.f("pk_otel_traces")),
        comment="Traces of an OpenTelemetry trace that do not bear its id: feedback may name either.",
    )
    op.execute(FEEDBACK)
    op.execute(OUTCOMES)


def downgrade() -> None:
    op.execute("drop view report.outcomes_per_day")
    op.execute("drop view report.feedback")
    op.drop_table("otel_traces")
    op.drop_table("feedback")
