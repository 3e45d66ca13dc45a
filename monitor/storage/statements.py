"""The SQL of one ledger transaction, in the order in which it runs.

What a batch needs to know is asked first, then rows are copied straight into their tables. All writers take their
locks in the same order: judges, words, partitions of topics (`intake`), rollups, costs, slices, hours; and within a
table by key. Hence two of them wait for one another, but never in a circle. Whoever holds a partition of a topic is
alone with its receipts and, because a trace's id decides its partition, with its traces.
"""

from typing import Final

PREPARE: Final = "set local enable_seqscan = off"
"""The big tables are asked by key: a plan made while they were small must not read them whole when they are not."""

INSERT_JUDGES: Final = """
insert into judges (judge, name, tier, model, model_digest, quantisation, prompt_digest)
select judge, name, tier, model, model_digest, quantisation, prompt_digest
from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
    as said (judge, name, tier, model, model_digest, quantisation, prompt_digest)
order by judge
on conflict do nothing
"""

# `do update … where false` changes nothing, but waits for other writers and locks the row: after this statement, what
# they wrote can be seen.
HOLD_PARTITIONS: Final = """
insert into intake (topic, partition, replays)
select topic, partition, replays from unnest(%s::text[], %s::integer[], %s::boolean[])
    as wanted (topic, partition, replays)
order by topic, partition
on conflict (topic, partition) do update set topic = excluded.topic where false
"""

NOW: Final = "select now()"

TAKE_BLOCKS: Final = "select nextval('verdict_blocks') from generate_series(1, %s)"

COPY_VERDICTS: Final = """
copy verdict_rows (
    verdict_id, event_time, judged_at, "offset", probability, first_probability, inclusion_probability,
    sampling_probability, replay_id, segment_id, decision_id, topic_id, partition, outcome, escalated, hallucinated,
    first_hallucinated, trace_id, reason, detail, reasoning, unsupported
) from stdin
"""

COPY_JUDGEMENTS: Final = """
copy judgement_rows (
    verdict_id, event_time, judged_at, raw_score, probability, latency_us, cost_usd, inclusion_probability,
    segment_id, choice_id, prompt_tokens, completion_tokens, sequence, reason, detail, reasoning, unsupported, windows
) from stdin
"""

COPY_PAYLOADS: Final = """
copy payloads (
    event_time, tenant, trace_id, service, environment, question, documents, answer, generator_model, prompt_version,
    tags, otel_trace_id, otel_span_id
) from stdin
"""

COPY_ESCALATIONS: Final = """
copy escalations (tenant, trace_id, evaluator, judge_version, event_time, assessment, reason, priority) from stdin
"""

COPY_DUPLICATES: Final = 'copy duplicates (topic_id, partition, "offset", tenant, trace_id, event_time) from stdin'

# Feedback may name an answer by OpenTelemetry's id, also when the answer's text is kept no longer.
INSERT_OTEL_TRACES: Final = """
insert into otel_traces (tenant, otel_trace_id, trace_id, event_time)
select tenant, otel_trace_id, trace_id, max(event_time)
from unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[]) as said (tenant, otel_trace_id, trace_id, event_time)
group by tenant, otel_trace_id, trace_id
order by tenant, otel_trace_id, trace_id
on conflict do nothing
"""

INSERT_DEAD_LETTER: Final = """
insert into dead_letters (topic, partition, "offset", reason, detail, field, raw, raw_bytes, dead_at)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict do nothing
"""

# The partitions' ends are known from redelivered records too.
COUNT_INTAKE: Final = """
update intake as kept set
    high_watermark = greatest(kept.high_watermark, new.high_watermark),
    next_offset = greatest(kept.next_offset, new.next_offset),
    verdicts = kept.verdicts + new.verdicts,
    unjudged = kept.unjudged + new.unjudged,
    pending = kept.pending + new.pending,
    dead_letters = kept.dead_letters + new.dead_letters,
    duplicates = kept.duplicates + new.duplicates,
    newest_event_time = greatest(kept.newest_event_time, new.newest_event_time),
    arrived_at = now()
from unnest(
    %s::text[], %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::timestamptz[]
) as new (
    topic, partition, high_watermark, next_offset, verdicts, unjudged, pending, dead_letters, duplicates,
    newest_event_time
)
where kept.topic = new.topic and kept.partition = new.partition
"""

UPSERT_ROLLUPS: Final = """
insert into rollups as kept (
    tenant, service, environment, evaluator, judge_version, minute,
    traces, total, hallucinated, unjudged, pending, first_total, first_hallucinated, escalated, pool_judged,
    sum_probability, left_out, local_latency_us, pool_latency_us, last_event_time,
    first_weighed, first_unreachable, first_weight, first_weight_squares, first_hallucinated_weight,
    first_hallucinated_weight_squares, first_last_event_time, replayed
)
select
    tenant, service, environment, evaluator, judge_version, minute,
    sum(traces), sum(total), sum(hallucinated), sum(unjudged), sum(pending), sum(first_total),
    sum(first_hallucinated), sum(escalated), sum(pool_judged), sum(sum_probability),
    sum(traces * (1 / sampling_probability::numeric - 1)), sum(local_latency_us), sum(pool_latency_us),
    max(last_event_time), sum(first_total), sum(first_unreachable), sum(first_total * weight),
    sum(first_total * weight * weight), sum(first_hallucinated * weight), sum(first_hallucinated * weight * weight),
    max(first_last_event_time), sum(replayed)
from unnest(
    %s::integer[], %s::timestamptz[], %s::double precision[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::numeric[], %s::bigint[], %s::bigint[],
    %s::timestamptz[], %s::bigint[], %s::timestamptz[], %s::bigint[]
) as said (
    segment_id, minute, sampling_probability, traces, total, hallucinated, unjudged, pending, first_total,
    first_hallucinated, escalated, pool_judged, sum_probability, local_latency_us, pool_latency_us, last_event_time,
    first_unreachable, first_last_event_time, replayed
)
join segments using (segment_id)
cross join lateral (select (1 / sampling_probability)::numeric as weight) as stands
group by tenant, service, environment, evaluator, judge_version, minute
order by tenant, service, environment, evaluator, judge_version, minute
on conflict (tenant, service, environment, evaluator, judge_version, minute) do update set
    traces = kept.traces + excluded.traces,
    total = kept.total + excluded.total,
    hallucinated = kept.hallucinated + excluded.hallucinated,
    unjudged = kept.unjudged + excluded.unjudged,
    pending = kept.pending + excluded.pending,
    first_total = kept.first_total + excluded.first_total,
    first_hallucinated = kept.first_hallucinated + excluded.first_hallucinated,
    escalated = kept.escalated + excluded.escalated,
    pool_judged = kept.pool_judged + excluded.pool_judged,
    sum_probability = kept.sum_probability + excluded.sum_probability,
    left_out = kept.left_out + excluded.left_out,
    local_latency_us = kept.local_latency_us + excluded.local_latency_us,
    pool_latency_us = kept.pool_latency_us + excluded.pool_latency_us,
    last_event_time = greatest(kept.last_event_time, excluded.last_event_time),
    first_weighed = kept.first_weighed + excluded.first_weighed,
    first_unreachable = kept.first_unreachable + excluded.first_unreachable,
    first_weight = kept.first_weight + excluded.first_weight,
    first_weight_squares = kept.first_weight_squares + excluded.first_weight_squares,
    first_hallucinated_weight = kept.first_hallucinated_weight + excluded.first_hallucinated_weight,
    first_hallucinated_weight_squares =
        kept.first_hallucinated_weight_squares + excluded.first_hallucinated_weight_squares,
    first_last_event_time = greatest(kept.first_last_event_time, excluded.first_last_event_time),
    replayed = kept.replayed + excluded.replayed,
    changed = pg_current_xact_id()
"""

# What a trace does not say is in no slice.
UPSERT_SLICES: Final = """
insert into slice_rollups as kept (
    tenant, service, environment, evaluator, judge_version, dimension, value, minute, first_total, first_hallucinated
)
select tenant, service, environment, evaluator, judge_version, dimension, value, minute, total, hallucinated
from unnest(
    %s::integer[], %s::text[], %s::text[], %s::timestamptz[], %s::bigint[], %s::bigint[]
) as said (segment_id, dimension, value, minute, total, hallucinated)
join segments using (segment_id)
order by tenant, service, environment, evaluator, judge_version, dimension, value, minute
on conflict (tenant, service, environment, evaluator, judge_version, dimension, value, minute) do update set
    first_total = kept.first_total + excluded.first_total,
    first_hallucinated = kept.first_hallucinated + excluded.first_hallucinated
"""

UPSERT_COSTS: Final = """
insert into cost_rollups as kept (
    tenant, service, environment, evaluator, judge_version, judge, hour,
    judgements, not_judged, prompt_tokens, completion_tokens, nano_usd, latency_us
)
select
    tenant, service, environment, evaluator, judge_version, judge, hour,
    judgements, not_judged, prompt_tokens, completion_tokens, nano_usd, latency_us
from unnest(
    %s::integer[], %s::text[], %s::timestamptz[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
    %s::bigint[]
) as said (
    segment_id, judge, hour, judgements, not_judged, prompt_tokens, completion_tokens, nano_usd, latency_us
)
join segments using (segment_id)
order by tenant, service, environment, evaluator, judge_version, judge, hour
on conflict (tenant, service, environment, evaluator, judge_version, judge, hour) do update set
    judgements = kept.judgements + excluded.judgements,
    not_judged = kept.not_judged + excluded.not_judged,
    prompt_tokens = kept.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = kept.completion_tokens + excluded.completion_tokens,
    nano_usd = kept.nano_usd + excluded.nano_usd,
    latency_us = kept.latency_us + excluded.latency_us
"""

INSERT_SEGMENT_HOURS: Final = """
insert into segment_hours (tenant, service, environment, evaluator, judge_version, hour)
select tenant, service, environment, evaluator, judge_version, hour
from unnest(%s::integer[], %s::timestamptz[]) as said (segment_id, hour)
join segments using (segment_id)
order by tenant, service, environment, evaluator, judge_version, hour
on conflict do nothing
"""

SLICE_VALUE: Final = """left(case dimension
        when 'generator_model' then generator_model
        when 'prompt_version' then prompt_version
        else tags ->> dimension
    end, 200)"""
"""The value of a `dimension` that a trace has: a column of it, or else the tag of that name."""
