"""The ledger's tables, as the code sees them. `migrations/` creates them; a test holds the two together.

Identity runs through all of them: `(tenant, trace_id)` is a trace, with `evaluator` and `judge_version` (that of
the whole cascade) one verdict. There are no foreign keys between the high-volume tables: each kind of row has a
retention of its own, and every batch is written by one transaction that knows all of them.
"""

from monitor.storage.tables.alerting import (
    UNSETTLED,
    alert_transitions,
    alerts,
    confirmation_samples,
    drift_states,
    outbox,
    silences,
    slice_states,
    subscriptions,
)
from monitor.storage.tables.columns import in_seconds, metadata
from monitor.storage.tables.feedback import feedback, otel_traces
from monitor.storage.tables.history import (
    dead_letters,
    intake,
    judgements,
    judges,
    receipts,
    rollups,
    segment_hours,
    slice_rollups,
    traces,
    verdicts,
)
from monitor.storage.tables.labelling import label_draws, label_tasks, labels
from monitor.storage.tables.pool import escalations, pool_spend
from monitor.storage.tables.replaying import replays

__all__ = [
    "UNSETTLED",
    "alert_transitions",
    "alerts",
    "confirmation_samples",
    "dead_letters",
    "drift_states",
    "escalations",
    "feedback",
    "in_seconds",
    "intake",
    "judgements",
    "judges",
    "label_draws",
    "label_tasks",
    "labels",
    "metadata",
    "otel_traces",
    "outbox",
    "pool_spend",
    "receipts",
    "replays",
    "rollups",
    "segment_hours",
    "silences",
    "slice_rollups",
    "slice_states",
    "subscriptions",
    "traces",
    "verdicts",
]
