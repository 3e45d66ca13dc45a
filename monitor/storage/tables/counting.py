"""What is counted of the history, and kept for ever: by minute, hour and segment."""

from sqlalchemy import BigInteger, Boolean, Column, Computed, DateTime, Index, Numeric, Table, text

from monitor.storage.tables.columns import SEGMENT_WORDS, UPDATED_IN_PLACE, XID8, counter, key, metadata, moment


def start_of(unit: str, column: str) -> str:
    """The beginning of the UTC hour or day, as Postgres writes it for a generated column."""
    length = {"hour": "01:00:00", "day": "1 day"}[unit]
    return f"date_bin('{length}'::interval, {column}, '2000-01-01 00:00:00+00'::timestamp with time zone)"


cost_rollups = Table(
    "cost_rollups",
    metadata,
    *key(*SEGMENT_WORDS, "judge"),
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("day", DateTime(timezone=True), Computed(start_of("day", "hour"))),
    *[counter(name) for name in ("judgements", "not_judged", "prompt_tokens", "completion_tokens")],
    *[counter(name) for name in ("nano_usd", "latency_us")],
    *[Index(None, unit) for unit in ("hour", "day")],
    comment="What each judge cost, an hour of event time and segment. Always equal to a recount of judgements.",
    postgresql_with=UPDATED_IN_PLACE,
)

slice_rollups = Table(
    "slice_rollups",
    metadata,
    *key("tenant", "service", "environment", "evaluator", "judge_version", "dimension", "value"),
    Column("minute", DateTime(timezone=True), primary_key=True),
    *[counter(name) for name in ("first_total", "first_hallucinated")],
    comment="First verdicts per minute of event time, segment and value of a watched dimension.",
    postgresql_with=UPDATED_IN_PLACE,
)

segment_hours = Table(
    "segment_hours",
    metadata,
    *key("tenant", "service", "environment", "evaluator", "judge_version"),
    Column("hour", DateTime(timezone=True), primary_key=True),
    Index(None, "hour"),
    comment="Hours of event time in which a segment had a first verdict.",
)

rollups = Table(
    "rollups",
    metadata,
    *key("tenant", "service", "environment", "evaluator", "judge_version"),
    Column("minute", DateTime(timezone=True), primary_key=True),
    *[counter(name) for name in ("traces", "total", "hallucinated", "unjudged", "pending")],
    *[counter(name) for name in ("first_total", "first_hallucinated", "escalated", "pool_judged")],
    Column("sum_probability", Numeric, nullable=False, server_default=text("0")),
    Column(
        "left_out",
        Numeric,
        nullable=False,
        server_default=text("0"),
        comment="Traces that sampling left out, as estimated from those that it kept: the sum of 1 / p - 1.",
    ),
    counter("local_latency_us"),
    counter("pool_latency_us"),
    moment("last_event_time"),
    # What rates are made from; `first_weighed` is `first_total` where they hold all first verdicts of the minute.
    *[counter(name) for name in ("first_weighed", "first_unreachable")],
    *[
        Column(f"first_{name}", Numeric, nullable=False, server_default=text("0"))
        for name in ("weight", "weight_squares", "hallucinated_weight", "hallucinated_weight_squares")
    ],
    moment("first_last_event_time", nullable=True),
    Column("folded_total", BigInteger),
    Column("folded_hallucinated", BigInteger),
    Column(
        "replayed",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="Those of `traces` that a replay had judged. No detector watches them.",
    ),
    *[Column(unit, DateTime(timezone=True), Computed(start_of(unit, "minute"))) for unit in ("hour", "day")],
    Column("changed", XID8, nullable=False, server_default=text("pg_current_xact_id()")),
    *[Index(None, unit) for unit in ("minute", "hour", "day")],
    Index(
        "ix_rollups_unfolded",
        *("tenant", "service", "environment", "evaluator", "judge_version", "minute"),
        postgresql_where=text("folded_total is null"),
    ),
    comment="Counts per minute of event time and segment. Always equal to a recount of verdicts and judgements.",
    postgresql_with=UPDATED_IN_PLACE,
)

trusted_hours = Table(
    "trusted_hours",
    metadata,
    *key("tenant", "service", "environment", "evaluator", "judge_version"),
    Column("hour", DateTime(timezone=True), primary_key=True),
    *[Column(name, Boolean, primary_key=True) for name in ("said", "truth")],
    Column("n", BigInteger, nullable=False),
    *[Column(name, Numeric, nullable=False) for name in ("wx", "qx", "qxx")],
    Index(None, "hour"),
    comment="What the pool's words of an hour of event time add to rates; dropped when one comes, and made anew.",
)
