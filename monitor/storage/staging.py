"""The temporary tables that a batch is copied into, before the statements of its transaction run."""

STAGE = """
set local enable_seqscan = off;
create temporary table if not exists stage_assessments (
    number integer not null,
    topic text not null, partition integer not null, "offset" bigint not null,
    tenant text not null, trace_id text not null, evaluator text not null, judge_version text not null,
    service text not null, environment text not null,
    event_time timestamptz not null, judged_at timestamptz not null,
    question text not null, documents jsonb not null, answer text not null,
    generator_model text, prompt_version text, tags jsonb not null, otel_trace_id text, otel_span_id text,
    outcome text not null, label text, probability double precision, reason text, detail text, reasoning text,
    unsupported jsonb not null, decided_by text[] not null,
    action text not null, decision_reason text not null, inclusion_probability double precision not null,
    sampling_probability double precision not null, priority integer not null, assessment jsonb,
    pool_judged integer not null, local_latency_us bigint not null, pool_latency_us bigint not null,
    replay_id bigint,
    fate text
) on commit delete rows;
create temporary table if not exists stage_judgements (
    number integer not null, sequence smallint not null,
    judge text not null, raw_score double precision, probability double precision, reason text, detail text,
    reasoning text, unsupported jsonb not null, latency_us bigint not null,
    prompt_tokens integer not null, completion_tokens integer not null, cost_usd double precision not null,
    inclusion_probability double precision not null, chosen_because text not null, windows jsonb
) on commit delete rows;
create temporary table if not exists stage_dead_letters (
    topic text not null, partition integer not null, "offset" bigint not null,
    reason text not null, detail text not null, field text, raw bytea not null, raw_bytes bigint not null,
    dead_at timestamptz not null
) on commit delete rows
"""

COPY_ASSESSMENTS = """
copy stage_assessments (
    number, topic, partition, "offset", tenant, trace_id, evaluator, judge_version, service, environment,
    event_time, judged_at, question, documents, answer, generator_model, prompt_version, tags,
    otel_trace_id, otel_span_id, outcome, label, probability, reason, detail, reasoning, unsupported, decided_by,
    action, decision_reason, inclusion_probability, sampling_probability, priority, assessment,
    pool_judged, local_latency_us, pool_latency_us, replay_id
) from stdin
"""

COPY_JUDGEMENTS = "copy stage_judgements from stdin"

COPY_DEAD_LETTERS = "copy stage_dead_letters from stdin"
