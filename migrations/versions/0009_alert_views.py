"""What is known of an alert, and how it came to its state, in the views for people.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ALERT_HISTORY = """
create {or_replace} view report.alert_history as
select
    alert_id, tenant, service, environment, evaluator, judge_version, state, direction, event_time, change_at,
    evidence, rate_before, rate_after, verdicts_seen, delay_verdicts, average_run_length, raised_at{more}
from alerts
"""

# Appended: `create or replace` keeps what reads the view as it was.
_MORE = """,
    change_earliest, change_latest, severity, reopened, resolved_at,
    explanation -> 'causes' as causes, confirmation ->> 'state' as confirmation
"""

ALERT_STEPS = """
create view report.alert_steps as
select
    alerts.tenant, alerts.service, alerts.environment, alert_id,
    step.at, step.actor, step.from_state, step.to_state, step.note, step.evidence
from alert_transitions as step
join alerts using (alert_id)
"""


def upgrade() -> None:
    op.execute(ALERT_HISTORY.format(or_replace="or replace", more=_MORE))
    op.execute(ALERT_STEPS)


def downgrade() -> None:
    op.execute("drop view report.alert_steps")
    op.execute("drop view report.alert_history")
    op.execute(ALERT_HISTORY.format(or_replace="", more=""))
