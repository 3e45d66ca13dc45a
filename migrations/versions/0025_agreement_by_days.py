"""`report.agreement` reads what can agree: what was escalated or labelled, and segments that two versions have judged.

Over the view `agreement_pairs` it grouped every verdict of its window by trace, to find those that two versions have
judged: minutes for ten million verdicts of one version. Its window is a constant to Postgres here (0022), and which
segments had two versions say the rollups.

Revision ID: 0025
Revises: 0024
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_PLANNED = (
    "language sql stable set jit = off set plan_cache_mode = force_custom_plan set work_mem = '64MB'"
    " set search_path = report_parts, public, pg_temp"
)

# As `agreement_pairs` (0019) has it: a word is the first one, but beside people's it is the current one; of people the
# most count, and a tie is no word.
_PAIRED = """
with several as materialized (
    select tenant, service, environment, evaluator from segments as s
    where exists (
        select from rollups as r
        where r.tenant = s.tenant and r.service = s.service and r.environment = s.environment
            and r.evaluator = s.evaluator and r.judge_version = s.judge_version
            and r.minute >= date_trunc('minute', agreement.since, 'UTC') and r.minute < agreement.until
    )
    group by tenant, service, environment, evaluator
    having count(*) > 1
), judged as (
    select
        tenant, service, environment, evaluator, event_time, trace_id,
        array_agg(judge_version) as versions, array_agg(first_hallucinated) as words
    from verdict_rows
    join segments using (segment_id)
    join several using (tenant, service, environment, evaluator)
    where first_hallucinated is not null and event_time >= agreement.since and event_time < agreement.until
    group by tenant, service, environment, evaluator, event_time, trace_id
    having count(*) > 1
), asked as (
    select said.verdict_id, said.event_time, said.segment_id, said.first_hallucinated from verdict_rows as said
    where said.escalated and said.event_time >= agreement.since and said.event_time < agreement.until
    union
    select said.verdict_id, said.event_time, said.segment_id, said.first_hallucinated
    from escalations as sent
    join segments using (tenant, evaluator, judge_version)
    join verdict_rows as said on said.segment_id = segments.segment_id and said.trace_id = sent.trace_id
    where sent.reason = 'confirmation' and said.event_time >= agreement.since and said.event_time < agreement.until
), people as (
    select tenant, trace_id, evaluator, sum(case when label = 'hallucinated' then 1 else -1 end) > 0 as word
    from labels
    group by tenant, trace_id, evaluator
    having sum(case when label = 'hallucinated' then 1 else -1 end) <> 0
), pairs as (
    select
        tenant, service, environment, evaluator, event_time, 'versions' as kind,
        versions[one] as a, versions[other] as b, words[one] as a_word, words[other] as b_word
    from judged
    cross join lateral generate_subscripts(versions, 1) as one
    cross join lateral generate_subscripts(versions, 1) as other
    where versions[one] < versions[other]
    union all
    select
        tenant, service, environment, evaluator, asked.event_time, 'pool',
        judge_version, of_pool.judge, asked.first_hallucinated, of_pool.word
    from asked
    join segments using (segment_id)
    cross join lateral (
        select choices.judge, coalesce(said.probability >= 0.5, said.raw_score > 0) as word
        from judgement_rows as said
        join choices using (choice_id)
        join judges using (judge)
        where said.verdict_id = asked.verdict_id and said.event_time = asked.event_time
            and said.event_time >= agreement.since and said.event_time < agreement.until
            and judges.tier = 'pool' and said.reason is null
        order by said.sequence desc
        limit 1
    ) as of_pool
    where asked.first_hallucinated is not null
    union all
    select
        segments.tenant, service, environment, segments.evaluator, said.event_time, 'people',
        judge_version, 'people', said.hallucinated, people.word
    from people
    join segments using (tenant, evaluator)
    join verdict_rows as said on said.segment_id = segments.segment_id and said.trace_id = people.trace_id
    where said.hallucinated is not null and said.event_time >= agreement.since and said.event_time < agreement.until
), counted as (
    select
        tenant, service, environment, evaluator, kind, a, b,
        case when agreement.bucket is not null then date_trunc(agreement.bucket, event_time, 'UTC') end as start,
        count(*) as n,
        count(*) filter (where a_word and b_word) as both_hallucinated,
        count(*) filter (where not a_word and not b_word) as both_faithful,
        count(*) filter (where a_word and not b_word) as a_only,
        count(*) filter (where not a_word and b_word) as b_only
    from pairs
    group by 1, 2, 3, 4, 5, 6, 7, 8
)"""
_VIEWED = """
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
)"""

# Cohen (1960): the agreement beyond that of two who say hallucinated as often, independently of each other.
AGREEMENT = """
create or replace function report.agreement(since timestamptz, until timestamptz, bucket text default null)
returns table (
    tenant text, service text, environment text, evaluator text, kind text, a text, b text, start timestamptz,
    n bigint, both_hallucinated bigint, both_faithful bigint, a_only bigint, b_only bigint,
    agreement double precision, kappa double precision
) {planned} as $${counted}, chances as (
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


def upgrade() -> None:
    op.execute(AGREEMENT.format(planned=_PLANNED, counted=_PAIRED))


def downgrade() -> None:
    op.execute(
        AGREEMENT.format(planned="language sql stable set search_path = report_parts, public, pg_temp", counted=_VIEWED)
    )
