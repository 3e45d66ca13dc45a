"""`report.coverage_per_hour` says how many of its traces a replay had judged: without them it meets the accounting.

Revision ID: 0027
Revises: 0026
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_KEY = "tenant, service, environment, evaluator, judge_version"

_COVERAGE = """
create or replace view report.coverage_per_hour as
select
    {key},
    hour,
    (sum(traces) + sum(left_out))::double precision as estimated_traces,
    sum(traces)::bigint as traces,
    sum(total)::bigint as verdicts,
    sum(unjudged)::bigint as unjudged,
    sum(pending)::bigint as pending,
    sum(escalated)::bigint as escalated,
    sum(pool_judged)::bigint as pool_judged,
    (sum(total) / nullif(sum(traces) + sum(left_out), 0))::double precision as coverage{more}
from rollups
group by {key}, hour
"""


def upgrade() -> None:
    op.execute(_COVERAGE.format(key=_KEY, more=",\n    sum(replayed)::bigint as replayed"))


def downgrade() -> None:
    # A view can be given another column, and not lose one.
    op.execute("drop view report.coverage_per_hour")
    op.execute(_COVERAGE.format(key=_KEY, more=""))
