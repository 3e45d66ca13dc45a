"""Rates that are read from rollups: verdicts are read only where there is a trusted word, or where a minute is cut.

Without a trusted word a trace adds (w, w squared) or (w, w squared, and both again as hallucinated) to every sum that a
rate is made from, so its minute's totals say all. What a trusted word changes is added on top. Everything is summed as
`numeric`: exact, hence the same in whatever order and from whatever part of it comes.

`first_weighed` counts the verdicts that a minute's totals hold. The release before does not fill them: where it is not
`first_total`, the minute is read from its verdicts, and the drift worker makes it good later.

`trusted_hours` keeps what the pool's words of an hour come to, because a judge's skill is taken from a month of them.

`rate_weighted_sums` stays as it is for the release before.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

# ruff: noqa: S608 - only constants of this file are put in
revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_KEYS = ("tenant", "service", "environment", "evaluator", "judge_version")
_KEY = ", ".join(f"{name} text" for name in _KEYS)
_TERMS = ("a", "b", "c")
_PRODUCTS = ("aa", "ab", "ac", "bb", "bc", "cc")
_SUMMED = (*(name for term in _TERMS for name in (term, f"q{term}")), *_PRODUCTS)
_ASKED = "since timestamptz, until timestamptz, bucket text, of_tenant text, of_service text, trust text"

# What is summed of first verdicts' weights, as of columns `first_…`.
_NUMBERS = ("weight", "weight_squares", "hallucinated_weight", "hallucinated_weight_squares")
# First verdicts that said the one and are by the trusted word the other; with w = 1 / sampling probability, q = w
# squared and x = 1 / the chance of a trusted word: the sums of w x, q x and q x squared.
_CELL = "said boolean, truth boolean, n bigint, wx numeric, qx numeric, qxx numeric"
# Planned for the window at hand, without compiling, which takes longer than the sums do, and hashed in memory.
_PLANNED = "set jit = off set plan_cache_mode = force_custom_plan set work_mem = '64MB'"
_LOCK = 0x72617465  # also in monitor/storage/trusted_hours.py


def _wanted(function: str, row: str, time: str) -> str:
    """Whether a row is of the window, tenant and service that `function` was asked for."""
    return f"""{row}.{time} >= {function}.since and {row}.{time} < {function}.until and {_of(function, row)}"""


def _of(function: str, row: str) -> str:
    return f"""({function}.of_tenant is null or {row}.tenant = {function}.of_tenant)
        and ({function}.of_service is null or {row}.service = {function}.of_service)"""


def _start(function: str, time: str) -> str:
    return f"case when {function}.bucket is not null then date_trunc({function}.bucket, {time}, 'UTC') end"


def _finer(function: str, end: str) -> str:
    """Whether a bucket is shorter than the time from 00:00:00 to `end`."""
    at = f"date_trunc({function}.bucket, timestamptz '2000-01-01 {end}.9Z', 'UTC')"
    return f"coalesce((select {at} > timestamptz '2000-01-01 00:00Z'), false)"


# Whether a row r of rollups says all of its minute; null in `cut` stands for no minute.
# A `case`, because of two equal counts Postgres would think that they are seldom so, and sort what it should hash.
_SUMMED_UP = f"""case
            when {_finer("rate_judged", "00:00:59")} then false
            when r.minute = any((select minutes from cut)::timestamptz[]) then false
            else r.first_weighed = r.first_total and r.replayed = 0 end"""

# People's draws that touch the window, each with the share of its answers that have a label which is no tie.
DRAWS = """
create function rate_draws(since timestamptz, until timestamptz, trust text) returns table (
    draw_id text, tenant text, service text, environment text, evaluator text,
    since_event timestamptz, until_event timestamptz, share double precision
) language sql stable as $$
select d.draw_id, d.tenant, d.service, d.environment, d.evaluator, d.since, d.until,
    count(*) filter (where (
        select sum(case when l.label = 'hallucinated' then 1 else -1 end) <> 0
        from labels as l
        where l.tenant = t.tenant and l.trace_id = t.trace_id and l.evaluator = d.evaluator
    ))::double precision / d.eligible
from label_draws as d join label_tasks as t using (draw_id)
where rate_draws.trust = 'people' and d.until > rate_draws.since and d.since < rate_draws.until
group by d.draw_id, d.tenant, d.service, d.environment, d.evaluator, d.since, d.until, d.eligible
$$
"""

# The local cascade's words: whole minutes from rollups; from their verdicts those that are cut, not weighed yet, or to
# be divided. The window's end cuts no minute that has nothing behind it: one until now reads no verdicts there.
JUDGED = f"""
create function rate_judged({_ASKED}) returns table (
    {_KEY}, start timestamptz, newest timestamptz, n bigint, unreachable bigint,
    weights numeric, squares numeric, hits numeric, hit_squares numeric
) language sql stable {_PLANNED} as $$
with draws as materialized (
    select * from rate_draws(rate_judged.since, rate_judged.until, rate_judged.trust) where share > 0
), bounds as (
    select rate_judged.since as at
    union all
    select rate_judged.until where exists (
        select from rollups as r
        where r.minute = date_trunc('minute', rate_judged.until, 'UTC') and r.last_event_time >= rate_judged.until
    )
    union all
    select since_event from draws
    union all
    select until_event from draws
), cut as materialized (
    select array_agg(date_trunc('minute', at, 'UTC')) as minutes from bounds
    where at <> date_trunc('minute', at, 'UTC') and at >= rate_judged.since and at <= rate_judged.until
), unsummed as materialized (
    select {", ".join(_KEYS)}, minute from rollups as r
    where r.minute > rate_judged.since - interval '1 minute' and r.minute < rate_judged.until
        and rate_judged.trust in ('pool', 'people') and {_of("rate_judged", "r")} and not {_SUMMED_UP}
), words as (
    select
        {", ".join(_KEYS)}, {_start("rate_judged", "minute")} as start, max(first_last_event_time) as newest,
        sum(first_total) as n,
        sum(case when rate_judged.trust = 'pool' then first_unreachable
            when exists (
                select from draws as d
                where d.tenant = r.tenant and d.service = r.service and d.environment = r.environment
                    and d.evaluator = r.evaluator and r.minute >= d.since_event and r.minute < d.until_event
            ) then 0 else first_total end) as unreachable,
        {", ".join(f"sum(first_{name}) as {name}" for name in _NUMBERS)}
    from rollups as r
    where first_total > 0 and {_wanted("rate_judged", "r", "minute")}
        and rate_judged.trust in ('pool', 'people') and {_SUMMED_UP}
    group by {", ".join(_KEYS)}, start
    union all
    select
        {", ".join(f"v.{name}" for name in _KEYS)}, {_start("rate_judged", "v.event_time")} as start, max(v.event_time),
        count(*),
        sum(case when rate_judged.trust = 'pool' then v.inclusion_probability = 0
            else not exists (
                select from draws as d
                where d.tenant = v.tenant and d.service = v.service and d.environment = v.environment
                    and d.evaluator = v.evaluator and v.event_time >= d.since_event and v.event_time < d.until_event
            ) end::integer),
        sum(stands.w), sum(stands.w * stands.w), sum(stands.f * stands.w), sum(stands.f * stands.w * stands.w)
    from (select distinct minute from unsummed) as unsummed_minute
    cross join lateral (
        select * from verdicts as v
        where v.event_time >= greatest(unsummed_minute.minute, rate_judged.since)
            and v.event_time < least(unsummed_minute.minute + interval '1 minute', rate_judged.until)
            and v.first_label is not null and {_of("rate_judged", "v")}
        offset 0  -- minute by minute: as a join, Postgres might read the whole window for it
    ) as v
    join unsummed as u on u.minute = unsummed_minute.minute
        and {" and ".join(f"u.{name} = v.{name}" for name in _KEYS)}
    cross join lateral (
        select (1 / v.sampling_probability)::numeric as w, (v.first_label = 'hallucinated')::integer as f
    ) as stands
    group by {", ".join(f"v.{name}" for name in _KEYS)}, start
)
select
    {", ".join(_KEYS)}, start, max(newest), sum(n)::bigint, sum(unreachable)::bigint,
    {", ".join(f"sum({name})" for name in _NUMBERS)}
from words
group by {", ".join(_KEYS)}, start
$$
"""

# The trusted word on a trace, and the chance that it had to get one. Of the pool: its own inclusion probability. Of
# people: the union of all draws that the trace was in, each with its answered share; what most of them say, a tie being
# no answer. Few traces, and of those many are alike: they are counted before they are weighed.
TRUSTED_ROWS = f"""
create function rate_trusted_rows({_ASKED}) returns table ({_KEY}, start timestamptz, {_CELL}
) language sql stable {_PLANNED} as $$
with draws as materialized (
    select * from rate_draws(rate_trusted_rows.since, rate_trusted_rows.until, rate_trusted_rows.trust)
), asked as (
    select distinct
        v.tenant, v.service, v.environment, v.evaluator, v.judge_version, v.trace_id, v.event_time, v.first_label,
        v.sampling_probability
    from draws as d
    join label_tasks as t using (draw_id, tenant)
    join verdicts as v on v.tenant = t.tenant and v.trace_id = t.trace_id and v.evaluator = d.evaluator
        and v.service = d.service and v.environment = d.environment
        and v.event_time >= d.since_event and v.event_time < d.until_event
    where v.first_label is not null and {_wanted("rate_trusted_rows", "v", "event_time")}
), words as (
    select
        v.tenant, v.service, v.environment, v.evaluator, v.judge_version, v.event_time, v.first_label,
        v.sampling_probability, v.inclusion_probability as chance, of_pool.truth
    from verdicts as v
    cross join lateral (
        select coalesce(j.probability >= 0.5, j.raw_score > 0) as truth
        from judgements as j
        join judges using (judge)
        where j.verdict_id = v.verdict_id and j.event_time = v.event_time
            and judges.tier = 'pool' and j.reason is null
        order by j.sequence desc
        limit 1
    ) as of_pool
    where rate_trusted_rows.trust = 'pool' and v.escalated and v.inclusion_probability > 0
        and v.first_label is not null and {_wanted("rate_trusted_rows", "v", "event_time")}
    union all
    select
        v.tenant, v.service, v.environment, v.evaluator, v.judge_version, v.event_time, v.first_label,
        v.sampling_probability, covering.chance, of_people.balance > 0
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
), alike as (
    select
        {", ".join(_KEYS)}, {_start("rate_trusted_rows", "event_time")} as start,
        first_label = 'hallucinated' as said, truth, sampling_probability, chance, count(*) as n
    from words
    group by {", ".join(_KEYS)}, start, said, truth, sampling_probability, chance
)
select
    {", ".join(_KEYS)}, start, said, truth, sum(n)::bigint,
    sum(n * w * x), sum(n * w * w * x), sum(n * w * w * x * x)
from alike
cross join lateral (select (1 / sampling_probability)::numeric as w, (1 / chance)::numeric as x) as stands
group by {", ".join(_KEYS)}, start, said, truth
$$
"""

# Of the pool: whole hours as they were summed up before, the others from their rows.
TRUSTED = f"""
create function rate_trusted({_ASKED}) returns table ({_KEY}, start timestamptz, {_CELL}
) language sql stable {_PLANNED} as $$
with known as materialized (
    select h.* from trusted_hours as h
    where rate_trusted.trust = 'pool' and h.hour + interval '1 hour' <= rate_trusted.until
        and {_wanted("rate_trusted", "h", "hour")} and not {_finer("rate_trusted", "00:59:59")}
), unknown as materialized (
    select distinct s.hour from segment_hours as s
    where rate_trusted.trust = 'pool' and s.hour >= date_trunc('hour', rate_trusted.since, 'UTC')
        and s.hour < rate_trusted.until
        and {_of("rate_trusted", "s")}
        and not exists (
            select from known as k
            where k.said and k.truth and k.hour = s.hour and {" and ".join(f"k.{name} = s.{name}" for name in _KEYS)}
        )
), stretches as (
    select hour as since_event, hour + interval '1 hour' as until_event from unknown
    union all
    select rate_trusted.since, rate_trusted.until where rate_trusted.trust = 'people'
)
select {", ".join(_KEYS)}, {_start("rate_trusted", "hour")}, said, truth, n, wx, qx, qxx from known where n > 0
union all
select found.*
from stretches
cross join lateral rate_trusted_rows(
    greatest(rate_trusted.since, stretches.since_event), least(rate_trusted.until, stretches.until_event),
    rate_trusted.bucket, rate_trusted.of_tenant, rate_trusted.of_service, rate_trusted.trust
) as found
where not exists (
    select from known as k
    where k.said and k.truth and k.hour = stretches.since_event
        and {" and ".join(f"k.{name} = found.{name}" for name in _KEYS)}
)
$$
"""

# An hour's sum is dropped in the transaction that adds a word of the pool to it, whichever release it is of. Who sums
# one up holds the lock alone: it sees every word whose transaction has been here, and none is added meanwhile.
FORGET = f"""
create function rate_forget_hour() returns trigger language plpgsql as $$
declare
    at timestamptz := date_trunc('hour', new.minute, 'UTC');
begin
    perform pg_advisory_xact_lock_shared({_LOCK}, (extract(epoch from at) / 3600)::integer);
    delete from trusted_hours as h
    where {" and ".join(f"h.{name} = new.{name}" for name in _KEYS)} and h.hour = at;
    return null;
end
$$
"""
TRIGGERS = tuple(
    f"create trigger {name} after {event} on rollups for each row when ({when}) execute function rate_forget_hour()"
    for name, event, when in (
        ("rate_added", "insert", "new.pool_judged > 0"),
        ("rate_changed", "update of pool_judged", "old.pool_judged <> new.pool_judged"),
    )
)

_SKILLS = {
    "positives": "sum(wx) filter (where truth)",
    "positive_squares": "sum(qxx) filter (where truth)",
    "found": "sum(wx) filter (where truth and said)",
    "negatives": "sum(wx) filter (where not truth)",
    "negative_squares": "sum(qxx) filter (where not truth)",
    "passed": "sum(wx) filter (where not truth and not said)",
}

SKILLS = f"""
create function rate_skills(
    since timestamptz, until timestamptz, of_tenant text, of_service text, trust text
) returns table ({_KEY}, {", ".join(f"{name} double precision" for name in _SKILLS)}) language sql stable as $$
select
    {", ".join(_KEYS)},
    {", ".join(f"coalesce({made}, 0)::double precision" for made in _SKILLS.values())}
from rate_trusted(
    rate_skills.since, rate_skills.until, null, rate_skills.of_tenant, rate_skills.of_service, rate_skills.trust
)
group by {", ".join(_KEYS)}
$$
"""

# monitor/drift/powered.py: a = x y, b = f (1 - x), c = 1 - x, with x = 0 where there is no trusted word, so that such a
# trace has a = 0, b = f, c = 1. Where there is one, what is added is the difference to that.
_CHANGES = {
    "a": "sum(wx) filter (where truth)",
    "qa": "sum(qx) filter (where truth)",
    "b": "-sum(wx) filter (where said)",
    "qb": "-sum(qx) filter (where said)",
    "c": "-sum(wx)",
    "qc": "-sum(qx)",
    "aa": "sum(qxx) filter (where truth)",
    "ab": "sum(qx - qxx) filter (where truth and said)",
    "ac": "sum(qx - qxx) filter (where truth)",
    "bb": "sum(qxx - 2 * qx) filter (where said)",
    "bc": "sum(qxx - 2 * qx) filter (where said)",
    "cc": "sum(qxx - 2 * qx)",
}
_BEFORE = {"b": "hits", "qb": "hit_squares", "c": "weights", "qc": "squares", "bb": "hit_squares", "bc": "hit_squares"}
_BEFORE |= {"cc": "squares"}

TOTALS = f"""
create function rate_totals({_ASKED}) returns table (
    {_KEY}, start timestamptz, newest timestamptz,
    n bigint, audits bigint, weights double precision, squares double precision, hits double precision,
    unreachable bigint, {", ".join(f"{name} double precision" for name in (*_SUMMED, *_SKILLS))}
) language sql stable as $$
with changes as materialized (
    select
        {", ".join(_KEYS)}, start, sum(n)::bigint as audits,
        {", ".join(f"coalesce({made}, 0) as {name}" for name, made in (_CHANGES | _SKILLS).items())}
    from rate_trusted(
        rate_totals.since, rate_totals.until, rate_totals.bucket,
        rate_totals.of_tenant, rate_totals.of_service, rate_totals.trust
    )
    group by {", ".join(_KEYS)}, start
)
select
    {", ".join(f"judged.{name}" for name in _KEYS)}, judged.start, judged.newest, judged.n,
    coalesce(changes.audits, 0), judged.weights::double precision, judged.squares::double precision,
    judged.hits::double precision, judged.unreachable,
    {", ".join(f"({_BEFORE.get(name, '0')} + coalesce(changes.{name}, 0))::double precision" for name in _SUMMED)},
    {", ".join(f"coalesce(changes.{name}, 0)::double precision" for name in _SKILLS)}
from rate_judged(
    rate_totals.since, rate_totals.until, rate_totals.bucket,
    rate_totals.of_tenant, rate_totals.of_service, rate_totals.trust
) as judged
left join changes on {" and ".join(f"changes.{name} = judged.{name}" for name in _KEYS)}
    and changes.start is not distinct from judged.start
order by {", ".join(f"judged.{name}" for name in _KEYS)}, judged.start
$$
"""

RATES = f"""
create or replace function report.hallucination_rates(
    since timestamptz, until timestamptz, bucket text default null, trust text default 'pool',
    skill_since timestamptz default null
) returns table (
    {_KEY}, start timestamptz, verdicts bigint, audits bigint,
    raw double precision, raw_low double precision, raw_high double precision,
    corrected double precision, corrected_low double precision, corrected_high double precision,
    powered double precision, powered_low double precision, powered_high double precision,
    estimated_verdicts double precision
) language sql stable {{settings}} as $$
select
    s.tenant, s.service, s.environment, s.evaluator, s.judge_version, s.start, s.n, s.audits,
    least(1, s.hits / s.weights), raw.low, raw.high,
    corrected.value, corrected.low, corrected.high, powered.value, powered.low, powered.high, s.weights
from {{totals}} as s
left join {{skills}} as skill
    using (tenant, service, environment, evaluator, judge_version)
cross join lateral (select s.weights ^ 2 / s.squares as n) as effective
cross join lateral (select least(effective.n, s.weights * s.hits / s.squares) as hits) as judged
cross join lateral rate_wilson(judged.hits, effective.n) as raw
left join lateral rate_corrected(
    judged.hits, effective.n, skill.found, skill.positives, skill.positive_squares,
    skill.passed, skill.negatives, skill.negative_squares
) as corrected on true
left join lateral rate_powered(
    s.audits, s.unreachable, s.weights, s.squares, s.a, s.qa, s.b, s.qb, s.c, s.qc,
    s.aa, s.ab, s.ac, s.bb, s.bc, s.cc
) as powered on true
$$
"""
_SKILL_WINDOW = "coalesce(skill_since, since - interval '30 days'), until"
NEW_RATES = RATES.format(
    settings="set jit = off",
    totals="rate_totals(since, until, bucket, null, null, trust)",
    skills=f"rate_skills({_SKILL_WINDOW}, null, null, trust)",
)
# What the downgrade goes back to.
OLD_RATES = RATES.format(
    settings="",
    totals="rate_weighted_sums(since, until, bucket, null, null, trust, false)",
    skills=f"rate_weighted_sums({_SKILL_WINDOW}, null, null, null, trust, true)",
)

FUNCTIONS = {
    "rate_draws": DRAWS, "rate_judged": JUDGED, "rate_trusted_rows": TRUSTED_ROWS, "rate_trusted": TRUSTED,
    "rate_skills": SKILLS, "rate_totals": TOTALS, "rate_forget_hour": FORGET,
}  # fmt: skip


def upgrade() -> None:
    # Constant defaults: no table is rewritten, and the release before goes on writing.
    for name in ("first_weighed", "first_unreachable"):
        op.add_column("rollups", sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    for name in _NUMBERS:
        column = sa.Column(f"first_{name}", sa.Numeric(), nullable=False, server_default=sa.text("0"))
        op.add_column("rollups", column)
    op.add_column("rollups", sa.Column("first_last_event_time", sa.DateTime(timezone=True)))
    op.create_table(
        "trusted_hours",
        *[sa.Column(name, sa.Text(), nullable=False) for name in _KEYS],
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        *[sa.Column(name, sa.Boolean(), nullable=False) for name in ("said", "truth")],
        sa.Column("n", sa.BigInteger(), nullable=False),
        *[sa.Column(name, sa.Numeric(), nullable=False) for name in ("wx", "qx", "qxx")],
        sa.PrimaryKeyConstraint(*_KEYS, "hour", "said", "truth", name="pk_trusted_hours"),
        comment="What the pool's words of an hour of event time add to rates; dropped when one comes, and made anew.",
    )
    op.create_index("ix_trusted_hours_hour", "trusted_hours", ["hour"])
    for made in (*FUNCTIONS.values(), *TRIGGERS, NEW_RATES):
        op.execute(made)
    _steps(now=" as (", then=" as materialized (")


def downgrade() -> None:
    _steps(now=" as materialized (", then=" as (")
    op.execute(OLD_RATES)
    for trigger in ("rate_added", "rate_changed"):
        op.execute(f"drop trigger {trigger} on rollups")
    for name in reversed(FUNCTIONS):
        op.execute(f"drop function {name}")
    op.drop_table("trusted_hours")
    op.drop_column("rollups", "first_last_event_time")
    for name in _NUMBERS:
        op.drop_column("rollups", f"first_{name}")
    for name in ("first_unreachable", "first_weighed"):
        op.drop_column("rollups", name)


def _steps(*, now: str, then: str) -> None:
    """Say of each step of the estimators whether it is made for itself.

    If not, Postgres puts a step's expressions into the next as often as they are named there, and plans for seconds.
    """
    for name in ("rate_corrected", "rate_powered"):
        question = sa.text("select pg_get_functiondef(cast(:name as regproc))")
        definition = op.get_bind().execute(question, {"name": name}).scalar_one()
        op.get_bind().exec_driver_sql(definition.replace(now + "\n", then + "\n").replace("%", "%%"))
