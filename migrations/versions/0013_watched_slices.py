"""Detectors of slices of the traffic, and the alerts that they raise.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_KEY = ("tenant", "service", "environment", "evaluator", "judge_version", "dimension", "value")

ALERT_HISTORY = """
create {or_replace} view report.alert_history as
select
    alert_id, tenant, service, environment, evaluator, judge_version, state, direction, event_time, change_at,
    evidence, rate_before, rate_after, verdicts_seen, delay_verdicts, average_run_length, raised_at,
    change_earliest, change_latest, severity, reopened, resolved_at,
    explanation -> 'causes' as causes, confirmation ->> 'state' as confirmation{more}
from alerts
"""


def upgrade() -> None:
    op.create_table(
        "slice_states",
        *[sa.Column(name, sa.Text(), nullable=False) for name in _KEY],
        sa.Column("state", postgresql.JSONB(), nullable=False),
        sa.Column("folded_through", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(*_KEY, name="pk_slice_states"),
        comment="The memory of the detector of each watched slice, written with that of its segment.",
        postgresql_with={"fillfactor": 70},
    )
    # Nullable: an alert on a whole segment has none, and the release before goes on writing.
    for name in ("dimension", "value"):
        op.add_column("alerts", sa.Column(name, sa.Text(), nullable=True))
    op.create_check_constraint(op.f("ck_alerts_slice"), "alerts", "(dimension is null) = (value is null)")
    op.execute(ALERT_HISTORY.format(or_replace="or replace", more=", dimension, value"))


def downgrade() -> None:
    op.execute("drop view report.alert_history")
    op.drop_constraint(op.f("ck_alerts_slice"), "alerts", type_="check")
    for name in ("value", "dimension"):
        op.drop_column("alerts", name)
    op.execute(ALERT_HISTORY.format(or_replace="", more=""))
    op.drop_table("slice_states")
