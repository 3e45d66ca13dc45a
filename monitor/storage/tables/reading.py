"""The history as it is read: views that put words in the place of numbers. Migration 0017 makes them.

A view's `event_time` finds its rows' partition: who knows it says it.
"""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Double, Integer, MetaData, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

_views = MetaData()
_KEY = ("tenant", "trace_id", "evaluator", "judge_version")

verdicts = Table(
    "verdicts",
    _views,
    *[Column(name, Text) for name in (*_KEY, "service", "environment")],
    Column("event_time", DateTime(timezone=True)),
    Column("judged_at", DateTime(timezone=True)),
    *[Column(name, Text) for name in ("outcome", "label")],
    Column("probability", Double),
    *[Column(name, Text) for name in ("reason", "detail", "first_label")],
    Column("first_probability", Double),
    Column("revision", Integer),
    Column("revised_at", DateTime(timezone=True)),
    Column("reasoning", Text),
    Column("unsupported", JSONB),
    Column("decided_by", ARRAY(Text)),
    *[Column(name, Text) for name in ("action", "decision_reason")],
    Column("inclusion_probability", Double),
    Column("sampling_probability", Double),
    Column("verdict_id", BigInteger),
    Column("segment_id", Integer),
    Column("topic", Text),
    Column("partition", Integer),
    Column("offset", BigInteger),
    Column("replay_id", BigInteger),
    Column("escalated", Boolean),
)

judgements = Table(
    "judgements",
    _views,
    *[Column(name, Text) for name in _KEY],
    Column("sequence", SmallInteger),
    Column("judge", Text),
    Column("judged_at", DateTime(timezone=True)),
    Column("raw_score", Double),
    Column("probability", Double),
    *[Column(name, Text) for name in ("reason", "detail", "reasoning")],
    Column("unsupported", JSONB),
    Column("latency_us", BigInteger),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("cost_usd", Double),
    Column("inclusion_probability", Double),
    Column("chosen_because", Text),
    Column("windows", JSONB),
    Column("verdict_id", BigInteger),
    Column("segment_id", Integer),
    Column("event_time", DateTime(timezone=True)),
)

traces = Table(
    "traces",
    _views,
    *[Column(name, Text) for name in ("tenant", "trace_id", "service", "environment")],
    Column("event_time", DateTime(timezone=True)),
    Column("question", Text),
    Column("documents", JSONB),
    Column("answer", Text),
    *[Column(name, Text) for name in ("generator_model", "prompt_version")],
    Column("tags", JSONB),
    *[Column(name, Text) for name in ("otel_trace_id", "otel_span_id")],
)

receipts = Table(
    "receipts",
    _views,
    Column("topic", Text),
    Column("partition", Integer),
    Column("offset", BigInteger),
    Column("outcome", Text),
)
