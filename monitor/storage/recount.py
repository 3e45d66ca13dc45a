"""Recounting: whether rollups and accounting still say what the rows say."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from monitor.storage.engine import snapshot
from monitor.storage.statements import SLICE_VALUE
from monitor.storage.weighing import FIRST_SUMS, WEIGHT

# What retention took away is counted no more; the counters keep it.
_KEPT = """coalesce(
        (select before from expirations as gone where gone.kind = '{kind}' and gone.tenant = {tenant}),
        (select before from expirations as gone where gone.kind = '{kind}' and gone.tenant = '*'),
        '-infinity'
    )"""
_KEPT_VERDICTS = _KEPT.format(kind="verdicts", tenant="coalesce(stored.tenant, counted.tenant)")
_KEPT_PAYLOADS = _KEPT.format(kind="payloads", tenant="coalesce(stored.tenant, counted.tenant)")
_TRIMMED = [f"trim_scale({name}) as {name}" if "weight" in name.split("_") else name for name in FIRST_SUMS]

ROLLUPS = f"""
with kept as (
    select
        segment_id, event_time, outcome, escalated, hallucinated, probability, replay_id, inclusion_probability,
        coalesce(sampling_probability, 1) as sampling_probability,
        case when replay_id is null then first_hallucinated end as first_hallucinated,
        case when replay_id is null then
            case first_hallucinated when true then 'hallucinated' when false then 'faithful' end
        end as first_label
    from verdict_rows
), verdict_counts as (
    select
        segment_id, date_trunc('minute', event_time, 'UTC') as minute,
        count(*) as traces,
        count(hallucinated) as total,
        count(*) filter (where hallucinated) as hallucinated,
        count(*) filter (where outcome = 'u') as unjudged,
        count(*) filter (where outcome = 'p') as pending,
        count(first_hallucinated) as first_total,
        count(*) filter (where first_hallucinated) as first_hallucinated,
        count(replay_id) as replayed,
        count(*) filter (where escalated) as escalated,
        coalesce(sum(probability::numeric), 0) as sum_probability,
        sum(1 / sampling_probability::numeric - 1) as left_out,
        max(event_time) as last_event_time,
        {", ".join(f"{made} as {name}" for name, made in FIRST_SUMS.items())}
    from kept
    {WEIGHT}
    group by 1, 2
), judgement_counts as (
    select
        segment_id, date_trunc('minute', said.event_time, 'UTC') as minute,
        count(*) filter (where judges.tier = 'pool' and said.reason is null) as pool_judged,
        coalesce(sum(said.latency_us) filter (where judges.tier <> 'pool'), 0) as local_latency_us,
        coalesce(sum(said.latency_us) filter (where judges.tier = 'pool'), 0) as pool_latency_us
    from judgement_rows as said
    join choices using (choice_id)
    join judges using (judge)
    group by 1, 2
), counted as (
    select
        tenant, service, environment, evaluator, judge_version, minute, traces, total, hallucinated, unjudged,
        pending, first_total, first_hallucinated, replayed, escalated, coalesce(pool_judged, 0) as pool_judged,
        trim_scale(sum_probability) as sum_probability, trim_scale(left_out) as left_out,
        coalesce(local_latency_us, 0) as local_latency_us,
        coalesce(pool_latency_us, 0) as pool_latency_us, last_event_time,
        {", ".join(_TRIMMED)}
    from verdict_counts
    join segments using (segment_id)
    left join judgement_counts using (segment_id, minute)
), stored as (
    select
        tenant, service, environment, evaluator, judge_version, minute, traces, total, hallucinated, unjudged,
        pending, first_total, first_hallucinated, replayed, escalated, pool_judged,
        trim_scale(sum_probability) as sum_probability, trim_scale(left_out) as left_out,
        local_latency_us, pool_latency_us, last_event_time,
        {", ".join(_TRIMMED)}
    from rollups
)
select
    concat_ws(' ', tenant, service, environment, evaluator, judge_version, minute) as key,
    to_jsonb(stored) as stored, to_jsonb(counted) as counted
from stored
full join counted using (tenant, service, environment, evaluator, judge_version, minute)
where to_jsonb(stored) is distinct from to_jsonb(counted)
    and minute >= {_KEPT_VERDICTS}
order by key
"""  # noqa: S608 - constants are put in

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

COSTS = f"""
with counted as (
    select
        segments.tenant, service, environment, evaluator, judge_version, judge,
        date_trunc('hour', said.event_time, 'UTC') as hour,
        count(*) as judgements, count(reason) as not_judged,
        coalesce(sum(prompt_tokens), 0) as prompt_tokens, coalesce(sum(completion_tokens), 0) as completion_tokens,
        coalesce(sum(round(cost_usd::numeric * 1000000000)), 0)::bigint as nano_usd, sum(latency_us) as latency_us
    from judgement_rows as said
    join choices using (choice_id)
    join segments using (segment_id)
    group by 1, 2, 3, 4, 5, 6, 7
), stored as (
    select
        tenant, service, environment, evaluator, judge_version, judge, hour,
        judgements, not_judged, prompt_tokens, completion_tokens, nano_usd, latency_us
    from cost_rollups
)
select
    concat_ws(' ', tenant, service, environment, evaluator, judge_version, judge, hour) as key,
    to_jsonb(stored) as stored, to_jsonb(counted) as counted
from stored
full join counted using (tenant, service, environment, evaluator, judge_version, judge, hour)
where to_jsonb(stored) is distinct from to_jsonb(counted)
    and hour >= {_KEPT_VERDICTS}
order by key
"""  # noqa: S608 - a constant is put in

# Outcomes are kept twice, by record and by trace, because the two are asked for apart.
OUTCOMES = """
with by_record as (
    select topic, partition, "offset", outcome from receipts where outcome in ('verdict', 'unjudged', 'pending')
), by_trace as (
    -- Whose receipt was gone when the ledger was migrated has no place.
    select topic, partition, "offset", outcome, revision from verdicts where topic <> 'unknown'
)
select
    concat_ws(' ', topic, partition, "offset") as key, to_jsonb(by_record) as stored,
    to_jsonb(by_trace) - 'revision' as counted
from by_record
full join by_trace using (topic, partition, "offset")
where by_record.outcome is distinct from by_trace.outcome
    -- The record ended as "could not judge", which a replay may make good.
    and not coalesce(by_record.outcome = 'unjudged' and by_trace.outcome = 'verdict' and revision > 0, false)
    and (by_trace.outcome is not null or not exists (select from expirations where kind = 'verdicts'))
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
    join traces using (tenant, trace_id, event_time)
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
    and minute >= greatest({_KEPT_VERDICTS}, {_KEPT_PAYLOADS})
order by key
"""  # noqa: S608 - a constant is put in


_QUERIES = {
    "rollups": ROLLUPS,
    "cost_rollups": COSTS,
    "slice_rollups": SLICES,
    "intake": INTAKE,
    "receipts": OUTCOMES,
}
MOST_KEPT = 1000
"""Differences of one table and step; of more it is known how many there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A row that does not say what the rows under it say; None where there is no such row.

    Attributes:
        table: `rollups`, `cost_rollups`, `slice_rollups`, `intake`, or `receipts` (against `verdicts`).
        key: the row's key, its parts separated by blanks.
    """

    table: str
    key: str
    stored: dict[str, Any] | None
    counted: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """How many rows differ, and the first of them."""

    differences: tuple[Difference, ...] = ()
    total: int = 0

    def __add__(self, other: "Found") -> "Found":
        kept = (*self.differences, *other.differences)[:MOST_KEPT]
        return Found(differences=kept, total=self.total + other.total)


def recount(engine: Engine) -> list[Difference]:
    """Count everything again, as of one instant; an empty list is what must hold at every instant.

    Reads all verdicts, judgements and receipts at once, as for a test's ledger; `verifying` is for others. Of each
    table it names the first thousand.

    Raises:
        LedgerUnavailable: Postgres is away, or it took longer than the statement timeout.
    """
    with snapshot(engine) as connection:
        return [one for table, query in _QUERIES.items() for one in found_in(connection, table, query).differences]


def found_in(connection: Connection, table: str, query: str, **bounds: Any) -> Found:
    """What one query above finds, of which the first thousand are kept."""
    # The queries stay whole, so that what is counted is what would be named.
    rows = connection.execute(text(_BOUNDED.format(query=query)), {**bounds, "most": MOST_KEPT}).all()
    kept = tuple(Difference(table=table, key=row.key, stored=row.stored, counted=row.counted) for row in rows)
    return Found(differences=kept, total=rows[0].total if rows else 0)


_BOUNDED = """
select key, stored, counted, count(*) over () as total from ({query}) as found order by key limit :most
"""
