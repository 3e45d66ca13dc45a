"""The probability with which each trace was sampled, and rates that weigh by it.

`rate_sums` stays as it is for the release before, which does not weigh.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

# ruff: noqa: S608 - only constants of this file are put in
revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_KEY = "tenant text, service text, environment text, evaluator text, judge_version text"
_TERMS = ("a", "b", "c")
_PRODUCTS = ("aa", "ab", "ac", "bb", "bc", "cc")
_SUMMED = (*(name for term in _TERMS for name in (term, f"q{term}")), *_PRODUCTS)

# As `rate_sums` of 0011, each trace with the weight w = 1 / sampling_probability; q = w squared.
SUMS = f"""
create function rate_weighted_sums(
    since timestamptz, until timestamptz, bucket text, of_tenant text, of_service text, trust text, audited_only boolean
) returns table (
    {_KEY}, start timestamptz, newest timestamptz,
    n bigint, audits bigint, weights double precision, squares double precision, hits double precision,
    unreachable bigint, {", ".join(f"{name} double precision" for name in _SUMMED)},
    positives double precision, positive_squares double precision, found double precision,
    negatives double precision, negative_squares double precision, passed double precision
) language sql stable as $$
with draws as materialized (
    select d.draw_id, d.tenant, d.service, d.environment, d.evaluator, d.since, d.until,
        count(*) filter (where (
            select sum(case when l.label = 'hallucinated' then 1 else -1 end) <> 0
            from labels as l
            where l.tenant = t.tenant and l.trace_id = t.trace_id and l.evaluator = d.evaluator
        ))::double precision / d.eligible as share
    from label_draws as d join label_tasks as t using (draw_id)
    where rate_weighted_sums.trust = 'people'
    group by d.draw_id
), said as (
    select v.*, of_pool.y, v.inclusion_probability as chance
    from verdicts as v
    left join lateral (
        select case when coalesce(j.probability >= 0.5, j.raw_score > 0) then 1 else 0 end::double precision as y
        from judgements as j
        join judges using (judge)
        where v.action = 'escalate' and v.inclusion_probability > 0
            and j.tenant = v.tenant and j.trace_id = v.trace_id
            and j.evaluator = v.evaluator and j.judge_version = v.judge_version
            and judges.tier = 'pool' and j.reason is null
        order by j.sequence desc
        limit 1
    ) as of_pool on true
    where rate_weighted_sums.trust = 'pool' and (not rate_weighted_sums.audited_only or v.action = 'escalate')
        and v.event_time >= rate_weighted_sums.since and v.event_time < rate_weighted_sums.until
    union all
    select v.*, case when covering.drawn then of_people.y end, coalesce(covering.chance, 0)
    from verdicts as v
    left join lateral (
        select
            case when bool_or(d.share >= 1) then 1 else 1 - exp(sum(ln(greatest(1 - d.share, 1e-300)))) end as chance,
            bool_or(exists (
                select from label_tasks as t
                where t.draw_id = d.draw_id and t.tenant = v.tenant and t.trace_id = v.trace_id
            )) as drawn
        from draws as d
        where d.tenant = v.tenant and d.service = v.service and d.environment = v.environment
            and d.evaluator = v.evaluator and v.event_time >= d.since and v.event_time < d.until
    ) as covering on true
    left join lateral (
        select case sign(sum(case when l.label = 'hallucinated' then 1 else -1 end))
            when 1 then 1 when -1 then 0 end::double precision as y
        from labels as l
        where l.tenant = v.tenant and l.trace_id = v.trace_id and l.evaluator = v.evaluator
    ) as of_people on true
    where rate_weighted_sums.trust = 'people' and (not rate_weighted_sums.audited_only or covering.drawn)
        and v.event_time >= rate_weighted_sums.since and v.event_time < rate_weighted_sums.until
), words as (
    select
        tenant, service, environment, evaluator, judge_version, event_time, y, chance,
        case when rate_weighted_sums.bucket is not null then date_trunc(rate_weighted_sums.bucket, event_time, 'UTC')
            end as start,
        case when first_label = 'hallucinated' then 1 else 0 end::double precision as f,
        case when y is null then 0 else 1 / chance end as x, 1 / sampling_probability as w
    from said
    where first_label is not null
        and (rate_weighted_sums.of_tenant is null or tenant = rate_weighted_sums.of_tenant)
        and (rate_weighted_sums.of_service is null or service = rate_weighted_sums.of_service)
), terms as (
    select *, x * coalesce(y, 0) as a, f * (1 - x) as b, 1 - x as c, w * w as q from words
)
select
    tenant, service, environment, evaluator, judge_version, start, max(event_time),
    count(*), count(y), sum(w), sum(q), sum(w * f), count(*) filter (where chance = 0),
    {", ".join(f"sum(w * {one}), sum(q * {one})" for one in _TERMS)},
    {", ".join(f"sum(q * {one} * {other})" for one, other in _PRODUCTS)},
    coalesce(sum(w * x) filter (where y = 1), 0),
    coalesce(sum(q * x * x) filter (where y = 1), 0),
    coalesce(sum(w * x * f) filter (where y = 1), 0),
    coalesce(sum(w * x) filter (where y = 0), 0),
    coalesce(sum(q * x * x) filter (where y = 0), 0),
    coalesce(sum(w * x * (1 - f)) filter (where y = 0), 0)
from terms
group by 1, 2, 3, 4, 5, 6
order by 1, 2, 3, 4, 5, 6
$$
"""

# Angelopoulos, Duchi, Zrnic (2023), with weights; monitor/drift/powered.py. No row where there is no rate.
POWERED = """
create function rate_powered(
    audits bigint, unreachable bigint, weights double precision, squares double precision,
    a double precision, qa double precision, b double precision, qb double precision,
    c double precision, qc double precision,
    aa double precision, ab double precision, ac double precision,
    bb double precision, bc double precision, cc double precision
) returns table (value double precision, low double precision, high double precision) language sql immutable as $$
with means as (
    select weights ^ 2 / squares as n, squares as q,
        rate_powered.a / weights as a, rate_powered.b / weights as b, rate_powered.c / weights as c,
        rate_powered.qa / squares as qa, rate_powered.qb / squares as qb, rate_powered.qc / squares as qc,
        (weights - rate_powered.c) ^ 2 / (rate_powered.cc + squares - 2 * rate_powered.qc) as labelled
    where audits >= 30 and unreachable = 0
), spread as (
    select m.*, n / (n - 1) * (rate_powered.aa / q - 2 * m.a * m.qa + m.a * m.a) as saa,
        n / (n - 1) * (rate_powered.ab / q - m.a * m.qb - m.b * m.qa + m.a * m.b) as sab,
        n / (n - 1) * (rate_powered.ac / q - m.a * m.qc - m.c * m.qa + m.a * m.c) as sac,
        n / (n - 1) * (rate_powered.bb / q - 2 * m.b * m.qb + m.b * m.b) as sbb,
        n / (n - 1) * (rate_powered.bc / q - m.b * m.qc - m.c * m.qb + m.b * m.c) as sbc,
        n / (n - 1) * (rate_powered.cc / q - 2 * m.c * m.qc + m.c * m.c) as scc
    from means as m
), shape as (
    select *, sbb * scc - sbc * sbc as det, (sbb + scc) ^ 2 as trace_squared from spread
), tuned as (
    select *,
        case when det > 1e-9 * sbb * scc then (sac * sbc - sab * scc) / det
            when trace_squared > 0 then -(sbb * sab + sbc * sac) / trace_squared else 0 end as l,
        case when det > 1e-9 * sbb * scc then (sab * sbc - sac * sbb) / det
            when trace_squared > 0 then -(sbc * sab + scc * sac) / trace_squared else 0 end as m
    from shape
), estimated as (
    select n, labelled, least(1, greatest(0, t.a + l * t.b + t.m * t.c)) as centre,
        (saa + l * l * sbb + t.m * t.m * scc + 2 * (l * sab + t.m * sac + l * t.m * sbc)) / n as variance
    from tuned as t
), worth as (
    select centre, least(n, greatest(labelled,
        case when variance > 0 then centre * (1 - centre) / variance else labelled end)) as effective
    from estimated
)
select centre, wilson.low, wilson.high from worth, rate_wilson(centre * effective, effective) as wilson
$$
"""

RATES = f"""
create function report.hallucination_rates(
    since timestamptz, until timestamptz, bucket text default null, trust text default 'pool',
    skill_since timestamptz default null
) returns table (
    {_KEY}, start timestamptz, verdicts bigint, audits bigint,
    raw double precision, raw_low double precision, raw_high double precision,
    corrected double precision, corrected_low double precision, corrected_high double precision,
    powered double precision, powered_low double precision, powered_high double precision,
    estimated_verdicts double precision
) language sql stable as $$
select
    s.tenant, s.service, s.environment, s.evaluator, s.judge_version, s.start, s.n, s.audits,
    least(1, s.hits / s.weights), raw.low, raw.high,
    corrected.value, corrected.low, corrected.high, powered.value, powered.low, powered.high, s.weights
from rate_weighted_sums(since, until, bucket, null, null, trust, false) as s
left join rate_weighted_sums(
    coalesce(skill_since, since - interval '30 days'), until, null, null, null, trust, true
) as skill
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

LAST_DAY = """
create view report.rates_of_the_last_day as
select
    tenant, service, environment, evaluator, judge_version, verdicts, audits, raw, raw_low, raw_high,
    corrected, corrected_low, corrected_high, powered, powered_low, powered_high
from report.hallucination_rates(now() - interval '1 day', now())
"""

VERDICT_HISTORY = """
create or replace view report.verdict_history as
select
    verdicts.tenant, verdicts.service, verdicts.environment, verdicts.trace_id,
    verdicts.evaluator, verdicts.judge_version, verdicts.event_time, verdicts.judged_at,
    verdicts.outcome, verdicts.label, verdicts.probability, verdicts.reason, verdicts.detail,
    verdicts.first_label, verdicts.first_probability, verdicts.revision, verdicts.revised_at,
    verdicts.reasoning, verdicts.unsupported, verdicts.decided_by,
    verdicts.action, verdicts.decision_reason, verdicts.inclusion_probability,
    traces.question, traces.answer, traces.documents, traces.generator_model, traces.prompt_version,
    traces.tags, traces.otel_trace_id, traces.otel_span_id, verdicts.sampling_probability
from verdicts
left join traces using (tenant, trace_id)
"""

_RATES = """
create {or_replace} view report.rates_per_{period} as
select
    tenant, service, environment, evaluator, judge_version,
    {start} as {period},
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
    coalesce(sum(first_total - coalesce(folded_total, 0)) filter (where late), 0)::bigint as late_verdicts{more}
from (
    select rollups.*, rollups.minute <= drift_states.folded_through as late
    from rollups
    left join drift_states using (tenant, service, environment, evaluator, judge_version)
) as counted
group by tenant, service, environment, evaluator, judge_version, {start}
"""

# What the downgrade goes back to.
OLD_VERDICT_HISTORY = """
create view report.verdict_history as
select
    verdicts.tenant, verdicts.service, verdicts.environment, verdicts.trace_id,
    verdicts.evaluator, verdicts.judge_version, verdicts.event_time, verdicts.judged_at,
    verdicts.outcome, verdicts.label, verdicts.probability, verdicts.reason, verdicts.detail,
    verdicts.first_label, verdicts.first_probability, verdicts.revision, verdicts.revised_at,
    verdicts.reasoning, verdicts.unsupported, verdicts.decided_by,
    verdicts.action, verdicts.decision_reason, verdicts.inclusion_probability,
    traces.question, traces.answer, traces.documents, traces.generator_model, traces.prompt_version,
    traces.tags, traces.otel_trace_id, traces.otel_span_id
from verdicts
left join traces using (tenant, trace_id)
"""

OLD_POWERED = """
create function rate_powered(
    n double precision, audits bigint, unreachable bigint,
    a double precision, b double precision, c double precision,
    aa double precision, ab double precision, ac double precision,
    bb double precision, bc double precision, cc double precision
) returns table (value double precision, low double precision, high double precision) language sql immutable as $$
with means as (
    select a / n as a, b / n as b, c / n as c, n - c as weights, cc - n + 2 * (n - c) as squares
    where audits >= 30 and unreachable = 0
), spread as (
    select means.*, n / (n - 1) * (rate_powered.aa / n - m.a * m.a) as saa,
        n / (n - 1) * (rate_powered.ab / n - m.a * m.b) as sab,
        n / (n - 1) * (rate_powered.ac / n - m.a * m.c) as sac, n / (n - 1) * (rate_powered.bb / n - m.b * m.b) as sbb,
        n / (n - 1) * (rate_powered.bc / n - m.b * m.c) as sbc, n / (n - 1) * (rate_powered.cc / n - m.c * m.c) as scc
    from means, lateral (select means.a, means.b, means.c) as m
), shape as (
    select *, sbb * scc - sbc * sbc as det, (sbb + scc) ^ 2 as trace_squared from spread
), tuned as (
    select *,
        case when det > 1e-9 * sbb * scc then (sac * sbc - sab * scc) / det
            when trace_squared > 0 then -(sbb * sab + sbc * sac) / trace_squared else 0 end as l,
        case when det > 1e-9 * sbb * scc then (sab * sbc - sac * sbb) / det
            when trace_squared > 0 then -(sbc * sab + scc * sac) / trace_squared else 0 end as m
    from shape
), estimated as (
    select least(1, greatest(0, a + l * b + m * c)) as centre, weights ^ 2 / squares as labelled,
        (saa + l * l * sbb + m * m * scc + 2 * (l * sab + m * sac + l * m * sbc)) / n as variance
    from tuned
), worth as (
    select centre, least(n, greatest(labelled,
        case when variance > 0 then centre * (1 - centre) / variance else labelled end)) as effective
    from estimated
)
select centre, wilson.low, wilson.high from worth, rate_wilson(centre * effective, effective) as wilson
$$
"""

OLD_RATES = f"""
create function report.hallucination_rates(
    since timestamptz, until timestamptz, bucket text default null, trust text default 'pool',
    skill_since timestamptz default null
) returns table (
    {_KEY}, start timestamptz, verdicts bigint, audits bigint,
    raw double precision, raw_low double precision, raw_high double precision,
    corrected double precision, corrected_low double precision, corrected_high double precision,
    powered double precision, powered_low double precision, powered_high double precision
) language sql stable as $$
select
    s.tenant, s.service, s.environment, s.evaluator, s.judge_version, s.start, s.n, s.audits,
    s.hits / s.n, raw.low, raw.high,
    corrected.value, corrected.low, corrected.high, powered.value, powered.low, powered.high
from rate_sums(since, until, bucket, null, null, trust, false) as s
left join rate_sums(coalesce(skill_since, since - interval '30 days'), until, null, null, null, trust, true) as skill
    using (tenant, service, environment, evaluator, judge_version)
cross join lateral rate_wilson(s.hits, s.n) as raw
left join lateral rate_corrected(
    s.hits, s.n, skill.found, skill.positives, skill.positive_squares,
    skill.passed, skill.negatives, skill.negative_squares
) as corrected on true
left join lateral rate_powered(
    s.n, s.audits, s.unreachable, s.a, s.b, s.c, s.aa, s.ab, s.ac, s.bb, s.bc, s.cc
) as powered on true
$$
"""


def upgrade() -> None:
    # Constant defaults: no table is rewritten, and the release before goes on writing.
    op.add_column(
        "verdicts",
        sa.Column(
            "sampling_probability",
            sa.Double(),
            nullable=False,
            server_default=sa.text("1"),
            comment="With which the trace was kept before it was judged: it stands for as many as the inverse says.",
        ),
    )
    op.execute(
        "alter table verdicts add constraint ck_verdicts_sampling_probability"
        " check (sampling_probability > 0 and sampling_probability <= 1) not valid"
    )
    op.execute("alter table verdicts validate constraint ck_verdicts_sampling_probability")
    op.add_column(
        "rollups",
        sa.Column(
            "left_out",
            sa.Numeric(),
            nullable=False,
            server_default=sa.text("0"),
            comment="Traces that sampling left out, as estimated from those that it kept: the sum of 1 / p - 1.",
        ),
    )
    op.execute(VERDICT_HISTORY)
    more = ",\n    (sum(traces) + sum(left_out))::double precision as estimated_traces"
    _rates_per_period(or_replace="or replace", more=more)
    _drop_rates()
    for made in (SUMS, POWERED, RATES, LAST_DAY):
        op.execute(made)


def downgrade() -> None:
    _drop_rates()
    op.execute("drop function rate_weighted_sums")
    for made in (OLD_POWERED, OLD_RATES, LAST_DAY):
        op.execute(made)
    for view in ("rates_per_hour", "rates_per_minute", "verdict_history"):
        op.execute(f"drop view report.{view}")
    op.drop_column("rollups", "left_out")
    op.drop_column("verdicts", "sampling_probability")
    op.execute(OLD_VERDICT_HISTORY)
    _rates_per_period(or_replace="", more="")


def _drop_rates() -> None:
    op.execute("drop view report.rates_of_the_last_day")
    op.execute("drop function report.hallucination_rates")
    op.execute("drop function rate_powered")


def _rates_per_period(*, or_replace: str, more: str) -> None:
    for period, start in (("minute", "minute"), ("hour", "date_trunc('hour', minute, 'UTC')")):
        op.execute(_RATES.format(period=period, start=start, or_replace=or_replace, more=more))
