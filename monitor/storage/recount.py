"""Recounting: whether rollups and accounting still say what the rows say."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from monitor.storage.engine import snapshot
from monitor.storage.statements import SLICE_VALUE

ROLLUPS = """
with verdict_counts as (
    select
        tenant, service, environment, evaluator, judge_version, date_trunc('minute', event_time, 'UTC') as minute,
        count(*) as traces,
        count(label) as total,
        count(*) filter (where label = 'hallucinated') as hallucinated,
        count(*) filter (where outcome = 'unjudged') as unjudged,
        count(*) filter (where outcome = 'pending') as pending,
        count(first_label) filter (where replay_id is null) as first_total,
        count(*) filter (where first_label = 'hallucinated' and replay_id is null) as first_hallucinated,
        count(replay_id) as replayed,
        count(*) filter (where action = 'escalate') as escalated,
        coalesce(sum(probability::numeric), 0) as sum_probability,
        sum(1 / sampling_probability::numeric - 1) as left_out,
        max(event_time) as last_event_time
    from verdicts
    group by 1, 2, 3, 4, 5, 6
), judgement_counts as (
    select
        tenant, service, environment, evaluator, judge_version,
        date_trunc('minute', verdicts.event_time, 'UTC') as minute,
        count(*) filter (where judges.tier = 'pool' and said.reason is null) as pool_judged,
        coalesce(sum(said.latency_us) filter (where judges.tier <> 'pool'), 0) as local_latency_us,
        coalesce(sum(said.latency_us) filter (where judges.tier = 'pool'), 0) as pool_latency_us
    from judgements as said
    join judges using (judge)
    join verdicts using (tenant, trace_id, evaluator, judge_version)
    group by 1, 2, 3, 4, 5, 6
), counted as (
    select
        tenant, service, environment, evaluator, judge_version, minute, traces, total, hallucinated, unjudged,
        pending, first_total, first_hallucinated, replayed, escalated, coalesce(pool_judged, 0) as pool_judged,
        trim_scale(sum_probability) as sum_probability, trim_scale(left_out) as left_out,
        coalesce(local_latency_us, 0) as local_latency_us,
        coalesce(pool_latency_us, 0) as pool_latency_us, last_event_time
    from verdict_counts
    left join judgement_counts using (tenant, service, environment, evaluator, judge_version, minute)
), stored as (
    select
        tenant, service, environment, evaluator, judge_version, minute, traces, total, hallucinated, unjudged,
        pending, first_total, first_hallucinated, replayed, escalated, pool_judged,
        trim_scale(sum_probability) as sum_probability, trim_scale(left_out) as left_out,
        local_latency_us, pool_latency_us, last_event_time
    from rollups
)
select
    concat_ws(' ', tenant, service, environment, evaluator, judge_version, minute) as key,
    to_jsonb(stored) as stored, to_jsonb(counted) as counted
from stored
full join counted using (tenant, service, environment, evaluator, judge_version, minute)
where to_jsonb(stored) is distinct from to_jsonb(counted)
order by key
"""

INTAKE = """
with counted as (
    select
        topic, partition, max("offset") + 1 as next_offset,
        count(*) filter (where outcome = 'verdict') as verdicts,
        count(*) filter (where outcome = 'unjudged') as unjudged,
        count(*) filter (where outcome = 'pending') as pending,
        count(*) filter (where outcome = 'dead_letter') as dead_letters,
        count(*) filter (where outcome = 'duplicate') as duplicates
    from receipts
    group by topic, partition
), stored as (
    select topic, partition, next_offset, verdicts, unjudged, pending, dead_letters, duplicates
    from intake
    where next_offset > 0
)
select
    concat_ws(' ', topic, partition) as key, to_jsonb(stored) as stored, to_jsonb(counted) as counted
from stored
full join counted using (topic, partition)
where to_jsonb(stored) is distinct from to_jsonb(counted)
order by key
"""

# Outcomes are kept twice, by record and by trace, because the two are asked for apart.
OUTCOMES = """
with by_record as (
    select tenant, trace_id, outcome
    from receipts
    join intake using (topic, partition)
    where outcome in ('verdict', 'unjudged', 'pending') and not replays
), by_trace as (
    select distinct on (tenant, trace_id, evaluator) tenant, trace_id, outcome, revision from verdicts
    where replay_id is null
    order by tenant, trace_id, evaluator, judged_at
)
select
    concat_ws(' ', tenant, trace_id) as key,
    to_jsonb(by_record) as stored, to_jsonb(by_trace) - 'revision' as counted
from by_record
full join by_trace using (tenant, trace_id)
where by_record.outcome is distinct from by_trace.outcome
    -- Replays: the record ended as "could not judge", which a replay may make good.
    and not coalesce(by_record.outcome = 'unjudged' and by_trace.outcome = 'verdict' and revision > 0, false)
order by key
"""


# Only what was counted can be held against the rows: dimensions come and go with the settings.
SLICES = f"""
with counted as (
    select
        v.tenant, v.service, v.environment, v.evaluator, v.judge_version, said.dimension, said.value,
        date_trunc('minute', v.event_time, 'UTC') as minute,
        count(*) as first_total, count(*) filter (where first_label = 'hallucinated') as first_hallucinated
    from verdicts as v
    join traces using (tenant, trace_id)
    cross join lateral (
        select dimension, {SLICE_VALUE} as value
        from (select distinct dimension from slice_rollups) as watched
    ) as said
    where first_label is not null and said.value <> '' and replay_id is null
    group by 1, 2, 3, 4, 5, 6, 7, 8
)
select
    concat_ws(' ', tenant, service, environment, evaluator, judge_version, dimension, value, minute) as key,
    to_jsonb(stored) as stored, to_jsonb(counted) as counted
from slice_rollups as stored
left join counted using (tenant, service, environment, evaluator, judge_version, dimension, value, minute)
where to_jsonb(stored) is distinct from to_jsonb(counted)
order by key
"""  # noqa: S608 - a constant is put in


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A row that does not say what the rows under it say; None where there is no such row.

    Attributes:
        table: `rollups`, `slice_rollups`, `intake`, or `receipts` (against `verdicts`).
        key: the row's key, its parts separated by blanks.
    """

    table: str
    key: str
    stored: dict[str, Any] | None
    counted: dict[str, Any] | None


def recount(engine: Engine) -> list[Difference]:
    """Count everything again, as of one instant; an empty list is what must hold at every instant.

    Reads all verdicts, judgements and receipts.

    Raises:
        LedgerUnavailable: Postgres is away, or it took longer than the statement timeout.
    """
    with snapshot(engine) as connection:
        return [
            *differences(connection, "rollups", ROLLUPS),
            *differences(connection, "slice_rollups", SLICES),
            *differences(connection, "intake", INTAKE),
            *differences(connection, "receipts", OUTCOMES),
        ]


def differences(connection: Connection, table: str, query: str) -> list[Difference]:
    """The rows of one query above."""
    return [
        Difference(table=table, key=row.key, stored=row.stored, counted=row.counted)
        for row in connection.execute(text(query))
    ]
