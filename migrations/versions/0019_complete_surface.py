"""The rest of the schema `report`, and its version: coverage, spans, escalations, costs, agreement.

Views that count by day or hour take their periods from the rollups, which are few, and read the big tables a period at
a time: one that nobody asks for is not read, and each is asked for by bounds of event time. They use no function but
Postgres' own, and read no table by a right that their reader lacks.

Revision ID: 0019
Revises: 0018
"""

from alembic import op

# ruff: noqa: S608 - only constants of this file are put in
revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_KEY = "tenant, service, environment, evaluator, judge_version"

VERSION = """
create view report.version as
select
    2 as version,
    1 as compatible_with,
    'Views, functions and columns are added, and keep name, type, unit and meaning: that raises version alone. What has'
        ' to go stays beside its successor for at least one release, and raises compatible_with when it goes.'::text
        as promise
"""

# As those per minute and hour of migration 0015.
RATES_PER_DAY = f"""
create view report.rates_per_day as
select
    {_KEY},
    day,
    sum(traces)::bigint as traces,
    sum(total)::bigint as verdicts,
    sum(hallucinated)::bigint as hallucinated,
    sum(hallucinated)::double precision / nullif(sum(total), 0)::double precision as rate,
    (sum(sum_probability) / nullif(sum(total), 0))::double precision as mean_probability,
    sum(first_total)::bigint as first_verdicts,
    sum(first_hallucinated)::bigint as first_hallucinated,
    sum(unjudged)::bigint as unjudged,
    sum(pending)::bigint as pending,
    sum(escalated)::bigint as escalated,
    sum(pool_judged)::bigint as pool_judged,
    coalesce(sum(first_total - coalesce(folded_total, 0)) filter (where late), 0)::bigint as late_verdicts,
    (sum(traces) + sum(left_out))::double precision as estimated_traces
from (
    select rollups.*, rollups.minute <= drift_states.folded_through as late
    from rollups
    left join drift_states using ({_KEY})
) as counted
group by {_KEY}, day
"""

COVERAGE = f"""
create view report.coverage_per_hour as
select
    {_KEY},
    hour,
    (sum(traces) + sum(left_out))::double precision as estimated_traces,
    sum(traces)::bigint as traces,
    sum(total)::bigint as verdicts,
    sum(unjudged)::bigint as unjudged,
    sum(pending)::bigint as pending,
    sum(escalated)::bigint as escalated,
    sum(pool_judged)::bigint as pool_judged,
    (sum(total) / nullif(sum(traces) + sum(left_out), 0))::double precision as coverage
from rollups
group by {_KEY}, hour
"""

UNJUDGED = f"""
create view report.unjudged_per_hour as
select
    counted.tenant, counted.service, counted.environment, counted.evaluator, counted.judge_version, hours.hour,
    counted.outcome, counted.reason, counted.traces
from (select hour from rollups group by 1) as hours
cross join lateral (
    select
        {_KEY}, case outcome when 'u' then 'unjudged' else 'pending' end as outcome, reason, count(*) as traces
    from verdict_rows
    join segments using (segment_id)
    where event_time >= hours.hour and event_time < hours.hour + interval '1 hour' and outcome <> 'v'
    group by {_KEY}, outcome, reason
) as counted
"""

# Whether a record is one of `accounting.dead_letters`: intake knows the partitions of the traces topic, and no others.
DEAD_LETTERS = """
create view report.dead_letter_history as
select
    letter.topic, letter.partition, letter."offset" as record_offset, letter.dead_at,
    letter.reason, letter.field, letter.detail, letter.raw_bytes,
    exists (
        select from intake where intake.topic = letter.topic and intake.partition = letter.partition
    ) as is_trace
from dead_letters as letter
"""

# The payload that was judged: an id that came again with another event time has another answer, whose words these
# offsets do not mean.
SPANS = """
create view report.unsupported_spans as
select
    said.tenant, said.service, said.environment, said.trace_id, said.evaluator, said.judge_version, said.event_time,
    said.label, said.probability,
    span.number::integer as number,
    (span.of ->> 'start')::integer as span_start,
    (span.of ->> 'end')::integer as span_end,
    substr(
        traces.answer, (span.of ->> 'start')::integer + 1,
        greatest((span.of ->> 'end')::integer - (span.of ->> 'start')::integer, 0)
    ) as span_text,
    (span.of ->> 'score')::double precision as score,
    span.of ->> 'document_id' as document_id,
    (span.of ->> 'document_start')::integer as document_start,
    (span.of ->> 'document_end')::integer as document_end,
    (
        select substr(
            document ->> 'text', (span.of ->> 'document_start')::integer + 1,
            greatest((span.of ->> 'document_end')::integer - (span.of ->> 'document_start')::integer, 0)
        )
        from jsonb_array_elements(traces.documents) as document
        where document ->> 'id' = span.of ->> 'document_id'
        limit 1
    ) as support_text
from verdicts as said
cross join lateral jsonb_array_elements(said.unsupported) with ordinality as span (of, number)
left join traces
    on traces.tenant = said.tenant and traces.trace_id = said.trace_id and traces.event_time = said.event_time
"""

ESCALATIONS = """
create view report.escalation_history as
select
    asked.tenant, said.service, said.environment, asked.trace_id, asked.evaluator, asked.judge_version,
    asked.event_time, asked.created_at as escalated_at, asked.reason, asked.priority, asked.state, asked.attempts,
    asked.claims,
    asked.available_at, asked.finished_at,
    extract(epoch from coalesce(asked.finished_at, now()) - asked.created_at)::double precision as waited_seconds,
    asked.last_error,
    of_pool.judge as pool_judge, of_pool.probability as pool_probability, of_pool.reason as pool_reason,
    said.first_label, said.label,
    case
        when asked.state in ('waiting', 'claimed') then null
        when asked.state = 'given_up' then 'given_up'
        when said.outcome is null then null
        when of_pool.judge is null or of_pool.reason is not null then 'not_judged'
        when said.first_label is null and said.label is not null then 'decided'
        when said.label = said.first_label then 'confirmed'
        when said.label <> said.first_label then 'reversed'
        else 'not_judged'
    end as outcome
from escalations as asked
left join verdicts as said using (tenant, trace_id, evaluator, judge_version, event_time)
left join lateral (
    select word.judge, word.probability, word.reason
    from judgements as word
    join judges using (judge)
    where word.verdict_id = said.verdict_id and word.event_time = said.event_time
        and judges.tier = 'pool'
    order by word.sequence desc
    limit 1
) as of_pool on true
"""

COSTS = """
create view report.costs_per_day as
select
    tenant, service, environment, evaluator, day, judges.tier, counted.judge,
    sum(judgements)::bigint as judgements,
    sum(not_judged)::bigint as not_judged,
    sum(prompt_tokens)::bigint as prompt_tokens,
    sum(completion_tokens)::bigint as completion_tokens,
    (sum(nano_usd) / 1e9)::double precision as usd,
    (sum(latency_us) / 1e6)::double precision as seconds
from cost_rollups as counted
left join judges using (judge)
group by tenant, service, environment, evaluator, day, judges.tier, counted.judge
"""

# Of people the most count, and a tie is no word, as in the rates that trust them. Versions are paired within one
# reading of the verdicts, grouped by what bounds may be asked for: a join with themselves reads all of them for any
# window. The pool's word is looked for where the policy, or an alert to be confirmed, sent the trace to it.
PAIRS = """
create view report.agreement_pairs as
select
    tenant, service, environment, trace_id, evaluator, event_time, 'versions' as kind,
    versions[one] as a, versions[other] as b, labels[one] as a_label, labels[other] as b_label,
    reasons[one] as decision_reason
from (
    select
        tenant, service, environment, trace_id, evaluator, event_time,
        array_agg(judge_version) as versions, array_agg(first_label) as labels, array_agg(decision_reason) as reasons
    from verdicts
    where first_label is not null
    group by tenant, service, environment, trace_id, evaluator, event_time
    having count(*) > 1
) as judged
cross join lateral generate_subscripts(versions, 1) as one
cross join lateral generate_subscripts(versions, 1) as other
where versions[one] < versions[other]
union all
select
    said.tenant, said.service, said.environment, said.trace_id, said.evaluator, said.event_time, 'pool',
    said.judge_version, of_pool.judge, said.first_label, of_pool.label, said.decision_reason
from verdicts as said
cross join lateral (
    select
        word.judge,
        case when coalesce(word.probability >= 0.5, word.raw_score > 0) then 'hallucinated' else 'faithful' end as label
    from judgements as word
    join judges using (judge)
    where word.verdict_id = said.verdict_id and word.event_time = said.event_time
        and judges.tier = 'pool' and word.reason is null
    order by word.sequence desc
    limit 1
) as of_pool
where said.first_label is not null and (
    said.action = 'escalate' or (said.tenant, said.trace_id, said.evaluator, said.judge_version) in (
        select tenant, trace_id, evaluator, judge_version from escalations where reason = 'confirmation'
    )
)
union all
select
    said.tenant, said.service, said.environment, said.trace_id, said.evaluator, said.event_time, 'people',
    said.judge_version, 'people', said.label, of_people.label, said.decision_reason
from verdicts as said
join (
    select
        tenant, trace_id, evaluator,
        case sign(sum(case when label = 'hallucinated' then 1 else -1 end))
            when 1 then 'hallucinated' when -1 then 'faithful'
        end as label
    from labels
    group by tenant, trace_id, evaluator
) as of_people using (tenant, trace_id, evaluator)
where said.label is not null and of_people.label is not null
"""

# Cohen (1960): the agreement beyond that of two who say hallucinated as often, independently of each other.
AGREEMENT = """
create function report.agreement(since timestamptz, until timestamptz, bucket text default null) returns table (
    tenant text, service text, environment text, evaluator text, kind text, a text, b text, start timestamptz,
    n bigint, both_hallucinated bigint, both_faithful bigint, a_only bigint, b_only bigint,
    agreement double precision, kappa double precision
) language sql stable as $$
with counted as (
    select
        p.tenant, p.service, p.environment, p.evaluator, p.kind, p.a, p.b,
        case when agreement.bucket is not null then date_trunc(agreement.bucket, p.event_time, 'UTC') end as start,
        count(*) as n,
        count(*) filter (where p.a_label = 'hallucinated' and p.b_label = 'hallucinated') as both_hallucinated,
        count(*) filter (where p.a_label = 'faithful' and p.b_label = 'faithful') as both_faithful,
        count(*) filter (where p.a_label = 'hallucinated' and p.b_label = 'faithful') as a_only,
        count(*) filter (where p.a_label = 'faithful' and p.b_label = 'hallucinated') as b_only
    from report.agreement_pairs as p
    where p.event_time >= agreement.since and p.event_time < agreement.until
    group by 1, 2, 3, 4, 5, 6, 7, 8
), chances as (
    select c.*, (c.both_hallucinated + c.both_faithful)::double precision / c.n as seen,
        ((c.both_hallucinated + c.a_only)::double precision * (c.both_hallucinated + c.b_only)
            + (c.both_faithful + c.b_only)::double precision * (c.both_faithful + c.a_only)) / c.n / c.n as by_chance
    from counted as c
)
select
    tenant, service, environment, evaluator, kind, a, b, start, n,
    both_hallucinated, both_faithful, a_only, b_only, seen, (seen - by_chance) / nullif(1 - by_chance, 0)
from chances
order by 1, 2, 3, 4, 5, 6, 7, 8
$$
"""

_VIEWS = {
    "version": VERSION,
    "rates_per_day": RATES_PER_DAY,
    "coverage_per_hour": COVERAGE,
    "unjudged_per_hour": UNJUDGED,
    "dead_letter_history": DEAD_LETTERS,
    "unsupported_spans": SPANS,
    "escalation_history": ESCALATIONS,
    "costs_per_day": COSTS,
    "agreement_pairs": PAIRS,
}


def upgrade() -> None:
    for made in (*_VIEWS.values(), AGREEMENT):
        op.execute(made)


def downgrade() -> None:
    op.execute("drop function report.agreement")
    for view in _VIEWS:
        op.execute(f"drop view report.{view}")
