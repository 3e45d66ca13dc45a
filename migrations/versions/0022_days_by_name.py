"""Rates name the days that they read wherever they read rows of days, and plan for nothing that they do not read.

Postgres leaves out the partitions that a constant rules out before it plans the others. What a join or a lateral
subquery bounds is ruled out later, when all of them have been planned: with a year of days that took longer than the
reading did. In these functions `since` and `until` are constants, because they are planned for each call.

The trusted words of the pool and those of people are functions of their own: asked for one kind, Postgres read and
planned the other one, too, which was most of a first call's time. `rate_trusted_rows` stays as it is for the release
before.

`report.unjudged` and `report.feedback_given` answer for a time what `unjudged_per_hour` and `feedback` answer for all:
as views they have no constant to go by.

Revision ID: 0022
Revises: 0021
"""

from alembic import op

# ruff: noqa: S608 - only constants of this file are put in
revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_KEYS = ("tenant", "service", "environment", "evaluator", "judge_version")
_KEY = ", ".join(_KEYS)
_ASKED = "since timestamptz, until timestamptz, bucket text, of_tenant text, of_service text"
_CELL = "said boolean, truth boolean, n bigint, wx numeric, qx numeric, qxx numeric"
_GIVEN = f"returns table ({', '.join(f'{name} text' for name in _KEYS)}, start timestamptz, {_CELL})"
# As in 0018: planned for the window at hand, without compiling, and hashed in memory.
_PLANNED = (
    "language sql stable set jit = off set plan_cache_mode = force_custom_plan set work_mem = '64MB'"
    " set search_path = report_parts, public, pg_temp"
)


def _wanted(function: str, row: str) -> str:
    return f"""{row}.event_time >= {function}.since and {row}.event_time < {function}.until"""


def _of(function: str) -> str:
    return f"""({function}.of_tenant is null or tenant = {function}.of_tenant)
        and ({function}.of_service is null or service = {function}.of_service)"""


def _summed(function: str) -> str:
    """First verdicts that have a trusted word, `words`, into sums: those that are alike are counted before weighed."""
    start = f"case when {function}.bucket is not null then date_trunc({function}.bucket, event_time, 'UTC') end"
    return f"""alike as (
    select
        {_KEY}, {start} as start,
        said, truth, sampling_probability, chance, count(*) as n
    from words
    group by {_KEY}, start, said, truth, sampling_probability, chance
)
select
    {_KEY}, start, said, truth, sum(n)::bigint,
    sum(n * w * x), sum(n * w * w * x), sum(n * w * w * x * x)
from alike
cross join lateral (select (1 / sampling_probability)::numeric as w, (1 / chance)::numeric as x) as stands
group by {_KEY}, start, said, truth"""


# The pool's last word on a trace, and the chance that it had to get one.
POOL = f"""
create function rate_pool_rows({_ASKED}) {_GIVEN} {_PLANNED} as $$
with words as (
    select
        {_KEY}, v.event_time, v.first_hallucinated as said, of_pool.truth,
        coalesce(v.sampling_probability, 1) as sampling_probability, v.inclusion_probability as chance
    from verdict_rows as v
    join segments using (segment_id)
    cross join lateral (
        select coalesce(j.probability >= 0.5, j.raw_score > 0) as truth
        from judgement_rows as j
        join choices using (choice_id)
        join judges using (judge)
        where j.verdict_id = v.verdict_id and j.event_time = v.event_time and {_wanted("rate_pool_rows", "j")}
            and judges.tier = 'pool' and j.reason is null
        order by j.sequence desc
        limit 1
    ) as of_pool
    where v.escalated and v.inclusion_probability > 0 and v.first_hallucinated is not null
        and {_wanted("rate_pool_rows", "v")} and {_of("rate_pool_rows")}
), {_summed("rate_pool_rows")}
$$
"""

# What most people say of a trace, a tie being no answer, and the chance that it had to be asked about: the union of all
# draws that it was in, each with its answered share.
PEOPLE = f"""
create function rate_people_rows({_ASKED}) {_GIVEN} {_PLANNED} as $$
with draws as materialized (
    select * from rate_draws(rate_people_rows.since, rate_people_rows.until, 'people')
), asked as (
    select distinct
        v.tenant, v.service, v.environment, v.evaluator, v.judge_version, v.trace_id, v.event_time, v.first_label,
        v.sampling_probability
    from draws as d
    join label_tasks as t using (draw_id, tenant)
    join verdicts as v on v.tenant = t.tenant and v.trace_id = t.trace_id and v.evaluator = d.evaluator
        and v.service = d.service and v.environment = d.environment
        and v.event_time >= d.since_event and v.event_time < d.until_event
    where v.first_label is not null and {_wanted("rate_people_rows", "v")}
        and (rate_people_rows.of_tenant is null or v.tenant = rate_people_rows.of_tenant)
        and (rate_people_rows.of_service is null or v.service = rate_people_rows.of_service)
), words as (
    select
        v.tenant, v.service, v.environment, v.evaluator, v.judge_version, v.event_time,
        v.first_label = 'hallucinated' as said, of_people.balance > 0 as truth,
        v.sampling_probability, covering.chance
    from asked as v
    cross join lateral (
        select
            case when bool_or(d.share >= 1) then 1 else 1 - exp(sum(ln(greatest(1 - d.share, 1e-300)))) end as chance
        from draws as d
        where d.tenant = v.tenant and d.service = v.service and d.environment = v.environment
            and d.evaluator = v.evaluator and v.event_time >= d.since_event and v.event_time < d.until_event
    ) as covering
    cross join lateral (
        select sum(case when l.label = 'hallucinated' then 1 else -1 end) as balance
        from labels as l
        where l.tenant = v.tenant and l.trace_id = v.trace_id and l.evaluator = v.evaluator
    ) as of_people
    where of_people.balance <> 0
), {_summed("rate_people_rows")}
$$
"""

_EITHER = """cross join lateral rate_trusted_rows(
    greatest(rate_trusted.since, stretches.since_event), least(rate_trusted.until, stretches.until_event),
    rate_trusted.bucket, rate_trusted.of_tenant, rate_trusted.of_service, rate_trusted.trust
) as found"""
_STRETCH = """greatest(rate_trusted.since, stretches.since_event), least(rate_trusted.until, stretches.until_event),
        rate_trusted.bucket, rate_trusted.of_tenant, rate_trusted.of_service"""
_ONE = f"""cross join lateral (
    select * from rate_pool_rows(
        {_STRETCH}
    ) where rate_trusted.trust = 'pool'
    union all
    select * from rate_people_rows(
        {_STRETCH}
    ) where rate_trusted.trust = 'people'
) as found"""

# Which hours lack a sum: counted by hour, because to look for each segment's own Postgres sorts texts.
_MISSING = f"""), unknown as materialized (
    select distinct s.hour from segment_hours as s
    where rate_trusted.trust = 'pool' and s.hour >= date_trunc('hour', rate_trusted.since, 'UTC')
        and s.hour < rate_trusted.until
        and (rate_trusted.of_tenant is null or s.tenant = rate_trusted.of_tenant)
        and (rate_trusted.of_service is null or s.service = rate_trusted.of_service)
        and not exists (
            select from known as k
            where k.said and k.truth and k.hour = s.hour and {" and ".join(f"k.{name} = s.{name}" for name in _KEYS)}
        )
)"""
_COUNTED = """), summed as (
    select hour, count(*) as segments from known where said and truth group by hour
), unknown as materialized (
    select s.hour from segment_hours as s
    left join summed using (hour)
    where rate_trusted.trust = 'pool' and s.hour >= date_trunc('hour', rate_trusted.since, 'UTC')
        and s.hour < rate_trusted.until
        and (rate_trusted.of_tenant is null or s.tenant = rate_trusted.of_tenant)
        and (rate_trusted.of_service is null or s.service = rate_trusted.of_service)
    group by s.hour, summed.segments
    having count(*) > coalesce(summed.segments, 0)
)"""

_MINUTE = "where v.event_time >= greatest(unsummed_minute.minute, rate_judged.since)"
_NAMED_MINUTE = """where v.event_time >= rate_judged.since and v.event_time < rate_judged.until
            and v.event_time >= greatest(unsummed_minute.minute, rate_judged.since)"""
_DRAWS = "select * from rate_draws(rate_judged.since, rate_judged.until, rate_judged.trust) where share > 0"
_OWN_DRAWS = f"{_DRAWS} and rate_judged.trust = 'people'"

_CHANGES = (
    ("rate_trusted", _EITHER, _ONE),
    ("rate_trusted", _MISSING, _COUNTED),
    ("rate_judged", _MINUTE, _NAMED_MINUTE),
    ("rate_judged", _DRAWS, _OWN_DRAWS),
)

UNJUDGED = f"""
create function report.unjudged(since timestamptz, until timestamptz) returns table (
    {", ".join(f"{name} text" for name in _KEYS)}, hour timestamptz, outcome text, reason text, traces bigint
) {_PLANNED} as $$
select
    {_KEY}, date_trunc('hour', said.event_time, 'UTC') as hour,
    case said.outcome when 'u' then 'unjudged' else 'pending' end, said.reason, count(*)
from verdict_rows as said
join segments using (segment_id)
where said.outcome <> 'v' and said.event_time >= unjudged.since and said.event_time < unjudged.until
group by {_KEY}, hour, said.outcome, said.reason
$$
"""


# An interval taken from a `timestamptz` goes by the session's time zone, and is no constant; from a `timestamp` it is.
def _answered(before: str) -> str:
    return f"""event_time >= (feedback_given.since at time zone 'UTC' - interval '{before}') at time zone 'UTC'
            and event_time < (feedback_given.until at time zone 'UTC' + interval '1 hour') at time zone 'UTC'"""


# Without the words that nobody asks for here: `verdicts` would look them up for each.
_ANSWER = """select
            tenant, trace_id, evaluator, judge_version, service, environment, event_time,
            case hallucinated when true then 'hallucinated' when false then 'faithful' end as label, probability
        from verdict_rows
        join segments using (segment_id)"""

# People say what they think soon: an answer is looked for in the day before, and only then in all 31. A lateral
# subquery that is not pulled up is asked for each by itself, in the days that its time leaves.
GIVEN = f"""
create function report.feedback_given(since timestamptz, until timestamptz) returns table (
    tenant text, feedback_id text, service text, environment text, trace_id text, otel_trace_id text, joined_by text,
    given_at timestamptz, recorded_at timestamptz, source text, thumb text, outcome text, corrected_answer text,
    comment text, evaluator text, judge_version text, event_time timestamptz, label text, probability double precision
) {_PLANNED} as $$
with told as materialized (
    select said.* from feedback as said
    where said.given_at >= feedback_given.since and said.given_at < feedback_given.until
), meant as materialized (
    select tenant, feedback_id, trace_id, 'trace_id' as joined_by, given_at from told where trace_id is not null
    union all
    select tenant, feedback_id, otel_trace_id, 'otel_trace_id', given_at from told where otel_trace_id is not null
    union
    select told.tenant, told.feedback_id, named.trace_id, 'otel_trace_id', given_at
    from told join otel_traces as named using (tenant, otel_trace_id)
), near as materialized (
    select meant.feedback_id, meant.joined_by, answer.*
    from meant
    cross join lateral (
        {_ANSWER}
        where {_answered("1 day")}
            and event_time > meant.given_at - interval '1 day' and event_time < meant.given_at + interval '1 hour'
            and tenant = meant.tenant and trace_id = meant.trace_id
        offset 0
    ) as answer
), far as (
    select meant.feedback_id, meant.joined_by, answer.*
    from meant
    cross join lateral (
        {_ANSWER}
        where {_answered("31 days")}
            and tenant = meant.tenant and trace_id = meant.trace_id
        offset 0
    ) as answer
    where not exists (select from near where near.tenant = meant.tenant and near.feedback_id = meant.feedback_id)
), found as materialized (
    select *, rank() over (partition by tenant, feedback_id order by joined_by desc) as choice
    from (select * from near union all select * from far) as either
)
select
    said.tenant, said.feedback_id, answer.service, answer.environment, coalesce(answer.trace_id, said.trace_id),
    said.otel_trace_id, answer.joined_by, said.given_at, said.recorded_at, said.source, said.thumb, said.outcome,
    said.corrected_answer, said.comment, answer.evaluator, answer.judge_version, answer.event_time, answer.label,
    answer.probability
from told as said
left join found as answer
    on answer.tenant = said.tenant and answer.feedback_id = said.feedback_id and answer.choice = 1
$$
"""

# Made from what is there: the search path that readers need is kept.
CHANGE = """
do $$
declare
    made text := pg_get_functiondef((
        select oid from pg_proc where pronamespace = 'public'::regnamespace and proname = '{name}'
    ));
begin
    if position($old${old}$old$ in made) = 0 then
        raise exception 'the function {name} is not as groundwatch made it: make it so again, and migrate then';
    end if;
    execute replace(made, $old${old}$old$, $new${new}$new$);
end
$$
"""


def upgrade() -> None:
    op.execute(POOL)
    op.execute(PEOPLE)
    op.execute(UNJUDGED)
    op.execute(GIVEN)
    for name, old, new in _CHANGES:
        op.execute(CHANGE.format(name=name, old=old, new=new))


def downgrade() -> None:
    op.execute("drop function report.feedback_given(timestamptz, timestamptz)")
    op.execute("drop function report.unjudged(timestamptz, timestamptz)")
    for name, old, new in reversed(_CHANGES):
        op.execute(CHANGE.format(name=name, old=new, new=old))
    op.execute(f"drop function rate_people_rows({_ASKED})")
    op.execute(f"drop function rate_pool_rows({_ASKED})")
