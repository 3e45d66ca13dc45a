"""The SQL of one ledger transaction, in the order in which it runs.

A batch is copied into temporary tables (`staging`); everything after that happens inside Postgres. The big tables
are asked row by row (`(select … limit 1)`, which the planner cannot turn into a join): a plan made while they were
small must not read them whole when they are not. All writers take their locks in the same order: judges, traces,
receipts, (verdicts and what belongs to them), intake, rollups, slices, hours; and within a table by key. Hence two of
them wait for one another, but never in a circle.
"""

INSERT_JUDGE = """
insert into judges (judge, name, tier, model, model_digest, quantisation, prompt_digest)
values (%s, %s, %s, %s, %s, %s, %s)
on conflict do nothing
"""

# The trace's row is what two writers of the same trace meet at. `do update … where false` changes nothing, but
# waits for the other and locks the row: after this statement, what the other wrote can be seen.
INSERT_TRACES = """
insert into traces (
    tenant, trace_id, service, environment, event_time, question, documents, answer,
    generator_model, prompt_version, tags, otel_trace_id, otel_span_id
)
select distinct on (tenant, trace_id)
    tenant, trace_id, service, environment, event_time, question, documents, answer,
    generator_model, prompt_version, tags, otel_trace_id, otel_span_id
from stage_assessments as stage
where (
    select true from receipts
    where receipts.topic = stage.topic and receipts.partition = stage.partition and receipts."offset" = stage."offset"
    limit 1
) is null
order by tenant, trace_id, topic, partition, "offset"
on conflict (tenant, trace_id) do update set tenant = excluded.tenant where false
"""

# Feedback may name an answer by OpenTelemetry's id, also when the answer's text is kept no longer.
INSERT_OTEL_TRACES = """
insert into otel_traces (tenant, otel_trace_id, trace_id)
select distinct tenant, otel_trace_id, trace_id from stage_assessments
where fate <> 'duplicate' and otel_trace_id <> trace_id
order by tenant, otel_trace_id, trace_id
on conflict do nothing
"""

# A record without a fate was consumed before. Of several records with one trace id, the first is the trace.
DECIDE_FATES = """
with fresh as (
    select
        number,
        row_number() over (
            partition by tenant, trace_id, evaluator order by topic, partition, "offset"
        ) > 1 or (
            select true from verdicts
            where verdicts.tenant = stage.tenant and verdicts.trace_id = stage.trace_id
                and verdicts.evaluator = stage.evaluator
            limit 1
        ) is not null as seen
    from stage_assessments as stage
    where (
        select true from receipts
        where receipts.topic = stage.topic and receipts.partition = stage.partition
            and receipts."offset" = stage."offset"
        limit 1
    ) is null
)
update stage_assessments as stage
set fate = case when fresh.seen then 'duplicate' else stage.outcome end
from fresh
where fresh.number = stage.number
"""

# What is left on the stages afterwards is ours to write: no one else holds a receipt for it.
INSERT_RECEIPTS = """
with written as (
    insert into receipts (topic, partition, "offset", outcome, tenant, trace_id)
    select topic, partition, "offset", fate, tenant, trace_id from stage_assessments where fate is not null
    union all
    select topic, partition, "offset", 'dead_letter', null, null from stage_dead_letters
    order by topic, partition, "offset"
    on conflict do nothing
    returning topic, partition, "offset", outcome
), not_alive as (
    delete from stage_assessments as stage
    where not exists (
        select from written
        where written.topic = stage.topic and written.partition = stage.partition
            and written."offset" = stage."offset" and written.outcome = stage.fate
    )
), not_dead as (
    delete from stage_dead_letters as stage
    where not exists (
        select from written
        where written.topic = stage.topic and written.partition = stage.partition
            and written."offset" = stage."offset" and written.outcome = 'dead_letter'
    )
)
select outcome, count(*) from written group by outcome
"""

INSERT_VERDICTS = """
insert into verdicts (
    tenant, trace_id, evaluator, judge_version, service, environment, event_time, judged_at,
    outcome, label, probability, reason, detail, first_label, first_probability, reasoning, unsupported, decided_by,
    action, decision_reason, inclusion_probability, sampling_probability
)
select
    tenant, trace_id, evaluator, judge_version, service, environment, event_time, judged_at,
    outcome, label, probability, reason, detail, label, probability, reasoning, unsupported, decided_by,
    action, decision_reason, inclusion_probability, sampling_probability
from stage_assessments
where fate <> 'duplicate'
order by tenant, trace_id, evaluator, judge_version
"""

INSERT_JUDGEMENTS = """
insert into judgements (
    tenant, trace_id, evaluator, judge_version, sequence, judge, judged_at, raw_score, probability, reason, detail,
    reasoning, unsupported, latency_us, prompt_tokens, completion_tokens, cost_usd,
    inclusion_probability, chosen_because, windows
)
select
    stage.tenant, stage.trace_id, stage.evaluator, stage.judge_version, said.sequence, said.judge, stage.judged_at,
    said.raw_score, said.probability, said.reason, said.detail, said.reasoning, said.unsupported, said.latency_us,
    said.prompt_tokens, said.completion_tokens, said.cost_usd, said.inclusion_probability, said.chosen_because,
    said.windows
from stage_judgements as said
join stage_assessments as stage on stage.number = said.number
where stage.fate <> 'duplicate'
order by stage.tenant, stage.trace_id, stage.evaluator, stage.judge_version, said.sequence
"""

INSERT_ESCALATIONS = """
insert into escalations (tenant, trace_id, evaluator, judge_version, assessment, reason, priority)
select tenant, trace_id, evaluator, judge_version, assessment, decision_reason, priority
from stage_assessments
where fate <> 'duplicate' and action = 'escalate'
order by tenant, trace_id, evaluator, judge_version
"""

INSERT_DEAD_LETTERS = """
insert into dead_letters (topic, partition, "offset", reason, detail, field, raw, raw_bytes, dead_at)
select topic, partition, "offset", reason, detail, field, raw, raw_bytes, dead_at from stage_dead_letters
order by topic, partition, "offset"
on conflict do nothing
"""

# The partitions' ends are known from redelivered records too, hence they come as arrays beside the stages.
UPSERT_INTAKE = """
insert into intake as kept (
    topic, partition, high_watermark, next_offset, verdicts, unjudged, pending, dead_letters, duplicates,
    newest_event_time, arrived_at
)
select
    seen.topic, seen.partition, seen.high_watermark, coalesce(new.next_offset, 0),
    coalesce(new.verdicts, 0), coalesce(new.unjudged, 0), coalesce(new.pending, 0),
    coalesce(new.dead_letters, 0), coalesce(new.duplicates, 0), new.newest_event_time, now()
from unnest(%(topics)s::text[], %(partitions)s::integer[], %(high_watermarks)s::bigint[])
    as seen (topic, partition, high_watermark)
left join (
    select
        topic, partition, max("offset") + 1 as next_offset,
        count(*) filter (where fate = 'verdict') as verdicts,
        count(*) filter (where fate = 'unjudged') as unjudged,
        count(*) filter (where fate = 'pending') as pending,
        count(*) filter (where fate = 'dead_letter') as dead_letters,
        count(*) filter (where fate = 'duplicate') as duplicates,
        max(event_time) filter (where event_time <= now()) as newest_event_time
    from (
        select topic, partition, "offset", fate, event_time from stage_assessments
        union all
        select topic, partition, "offset", 'dead_letter', null from stage_dead_letters
    ) as receipt
    group by topic, partition
) as new using (topic, partition)
order by seen.topic, seen.partition
on conflict (topic, partition) do update set
    high_watermark = greatest(kept.high_watermark, excluded.high_watermark),
    next_offset = greatest(kept.next_offset, excluded.next_offset),
    verdicts = kept.verdicts + excluded.verdicts,
    unjudged = kept.unjudged + excluded.unjudged,
    pending = kept.pending + excluded.pending,
    dead_letters = kept.dead_letters + excluded.dead_letters,
    duplicates = kept.duplicates + excluded.duplicates,
    newest_event_time = greatest(kept.newest_event_time, excluded.newest_event_time),
    arrived_at = excluded.arrived_at
"""

UPSERT_ROLLUPS = """
insert into rollups as kept (
    tenant, service, environment, evaluator, judge_version, minute,
    traces, total, hallucinated, unjudged, pending, first_total, first_hallucinated, escalated, pool_judged,
    sum_probability, left_out, local_latency_us, pool_latency_us, last_event_time
)
select
    tenant, service, environment, evaluator, judge_version, date_trunc('minute', event_time, 'UTC') as minute,
    count(*),
    count(label),
    count(*) filter (where label = 'hallucinated'),
    count(*) filter (where outcome = 'unjudged'),
    count(*) filter (where outcome = 'pending'),
    count(label),
    count(*) filter (where label = 'hallucinated'),
    count(*) filter (where action = 'escalate'),
    sum(pool_judged),
    coalesce(sum(probability::numeric), 0),
    sum(1 / sampling_probability::numeric - 1),
    sum(local_latency_us),
    sum(pool_latency_us),
    max(event_time)
from stage_assessments
where fate <> 'duplicate'
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
    changed = excluded.changed
"""

SLICE_VALUE = """left(case dimension
        when 'generator_model' then generator_model
        when 'prompt_version' then prompt_version
        else tags ->> dimension
    end, 200)"""
"""The value of a `dimension` that a trace has: a column of it, or else the tag of that name."""

# What a trace does not say is in no slice.
UPSERT_SLICES = f"""
insert into slice_rollups as kept (
    tenant, service, environment, evaluator, judge_version, dimension, value, minute, first_total, first_hallucinated
)
select
    tenant, service, environment, evaluator, judge_version, said.dimension, said.value,
    date_trunc('minute', event_time, 'UTC') as minute, count(*), count(*) filter (where label = 'hallucinated')
from stage_assessments
cross join lateral (
    select dimension, {SLICE_VALUE} as value
    from unnest(%(dimensions)s::text[]) as dimension
) as said
where fate <> 'duplicate' and label is not null and said.value <> ''
group by tenant, service, environment, evaluator, judge_version, said.dimension, said.value, minute
order by tenant, service, environment, evaluator, judge_version, said.dimension, said.value, minute
on conflict (tenant, service, environment, evaluator, judge_version, dimension, value, minute) do update set
    first_total = kept.first_total + excluded.first_total,
    first_hallucinated = kept.first_hallucinated + excluded.first_hallucinated
"""  # noqa: S608 - a constant is put in

INSERT_SEGMENT_HOURS = """
insert into segment_hours (tenant, service, environment, evaluator, judge_version, hour)
select distinct
    tenant, service, environment, evaluator, judge_version, date_trunc('hour', event_time, 'UTC') as hour
from stage_assessments
where fate <> 'duplicate' and label is not null
order by tenant, service, environment, evaluator, judge_version, hour
on conflict do nothing
"""
