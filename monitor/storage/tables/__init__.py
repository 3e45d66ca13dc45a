"""The ledger's tables, as the code sees them. `migrations/` creates them; a test holds the two together.

Identity runs through all of them: `(tenant, trace_id)` is a trace, with `evaluator` and `judge_version` (that of
the whole cascade) one verdict. What is written in bulk (`verdict_rows`, `judgement_rows`, `payloads`) has a partition
a day and numbers for words; it is read through views (`verdicts`, `judgements`, `traces`, `receipts`). There are no
foreign keys between the high-volume tables: each kind of row has a retention of its own, and every batch is written
by one transaction that knows all of them.
"""

from monitor.storage.tables.access import reader_tenants, readers
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
from monitor.storage.tables.columns import SEGMENT_WORDS, in_seconds, metadata
from monitor.storage.tables.counting import cost_rollups, rollups, segment_hours, slice_rollups, trusted_hours
from monitor.storage.tables.feedback import feedback, otel_traces
from monitor.storage.tables.history import (
    choices,
    dead_letters,
    decisions,
    duplicates,
    expirations,
    intake,
    judgement_rows,
    judges,
    payloads,
    receipt_ranges,
    segments,
    soundings,
    topics,
    verdict_rows,
)
from monitor.storage.tables.labelling import label_draws, label_tasks, labels
from monitor.storage.tables.pool import escalations, pool_spend
from monitor.storage.tables.reading import judgements, receipts, traces, verdicts
from monitor.storage.tables.replaying import replays

__all__ = [
    "SEGMENT_WORDS",
    "UNSETTLED",
    "alert_transitions",
    "alerts",
    "choices",
    "confirmation_samples",
    "cost_rollups",
    "dead_letters",
    "decisions",
    "drift_states",
    "duplicates",
    "escalations",
    "expirations",
    "feedback",
    "in_seconds",
    "intake",
    "judgement_rows",
    "judgements",
    "judges",
    "label_draws",
    "label_tasks",
    "labels",
    "metadata",
    "otel_traces",
    "outbox",
    "payloads",
    "pool_spend",
    "reader_tenants",
    "readers",
    "receipt_ranges",
    "receipts",
    "replays",
    "rollups",
    "segment_hours",
    "segments",
    "silences",
    "slice_rollups",
    "slice_states",
    "soundings",
    "subscriptions",
    "topics",
    "traces",
    "trusted_hours",
    "verdict_rows",
    "verdicts",
]
