"""People's labels, and the honest rates in SQL.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

# ruff: noqa: S608 - only constants of this file are put in
revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_KEY = "tenant text, service text, environment text, evaluator text, judge_version text"
_PRODUCTS = ("aa", "ab", "ac", "bb", "bc", "cc")

# The trusted word y on a trace, and the chance that it had to get one. Of the pool: its own inclusion probability. Of
# people: the union of all draws that the trace was in, each with its answered share; what most of them say, a tie being
# no answer.
SUMS = f"""
create function rate_sums(
    since timestamptz, until timestamptz, bucket text, of_tenant text, of_service text, trust text, audited_only boolean
) returns table (
    {_KEY}, start timestamptz, newest timestamptz,
    n bigint, audits bigint, hits double precision, unreachable bigint,
    a double precision, b double precision, c double precision,
    {", ".join(f"{name} double precision" for name in _PRODUCTS)},
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
    where rate_sums.trust = 'people'
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
    where rate_sums.trust = 'pool' and (not rate_sums.audited_only or v.action = 'escalate')
        and v.event_time >= rate_sums.since and v.event_time < rate_sums.until
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
    where rate_sums.trust = 'people' and (not rate_sums.audited_only or covering.drawn)
        and v.event_time >= rate_sums.since and v.event_time < rate_sums.until
), words as (
    select
        tenant, service, environment, evaluator, judge_version, event_time, y, chance,
        case when rate_sums.bucket is not null then date_trunc(rate_sums.bucket, event_time, 'UTC') end as start,
        case when first_label = 'hallucinated' then 1 else 0 end::double precision as f,
        case when y is null then 0 else 1 / chance end as w
    from said
    where first_label is not null
        and (rate_sums.of_tenant is null or tenant = rate_sums.of_tenant)
        and (rate_sums.of_service is null or service = rate_sums.of_service)
), terms as (
    select *, w * coalesce(y, 0) as a, f * (1 - w) as b, 1 - w as c from words
)
select
    tenant, service, environment, evaluator, judge_version, start, max(event_time),
    count(*), count(y), sum(f), count(*) filter (where chance = 0),
    sum(a), sum(b), sum(c), {", ".join(f"sum({one} * {other})" for one, other in _PRODUCTS)},
    coalesce(sum(w) filter (where y = 1), 0),
    coalesce(sum(w * w) filter (where y = 1), 0),
    coalesce(sum(w * f) filter (where y = 1), 0),
    coalesce(sum(w) filter (where y = 0), 0),
    coalesce(sum(w * w) filter (where y = 0), 0),
    coalesce(sum(w * (1 - f)) filter (where y = 0), 0)
from terms
group by 1, 2, 3, 4, 5, 6
order by 1, 2, 3, 4, 5, 6
$$
"""

_Z = "1.959963984540054"

# Wilson (1927); monitor/domain/rate.py.
WILSON = f"""
create function rate_wilson(hits double precision, n double precision)
returns table (low double precision, high double precision) language sql immutable as $$
select greatest(0, centre - half), least(1, centre + half)
from (select hits / n as share, {_Z}::double precision ^ 2 / n as spread where n > 0) as s
cross join lateral (
    select (share + spread / 2) / (1 + spread) as centre,
        {_Z} / (1 + spread) * sqrt(share * (1 - share) / n + spread / (4 * n)) as half
) as parts
$$
"""

# Rogan and Gladen (1978), Lang and Reiczigel (2014); monitor/drift/corrected.py. No row where there is no rate.
CORRECTED = f"""
create function rate_corrected(
    hits double precision, n double precision, found double precision, positives double precision,
    positive_squares double precision, passed double precision, negatives double precision,
    negative_squares double precision
) returns table (value double precision, low double precision, high double precision) language sql immutable as $$
with skill as (
    select se_n, sp_n, least(se_n, se_n * found / positives) as se_hits,
        least(sp_n, sp_n * passed / negatives) as sp_hits
    from (
        select positives ^ 2 / positive_squares as se_n, negatives ^ 2 / negative_squares as sp_n
        where positive_squares > 0 and negative_squares > 0 and n > 0
    ) as effective
    where se_n >= 30 and sp_n >= 30
), plain as (
    select *, se_hits / se_n + sp_hits / sp_n - 1 as youden from skill
), smoothed as (
    select *, n + {_Z}::double precision ^ 2 as m,
        (hits + {_Z}::double precision ^ 2 / 2) / (n + {_Z}::double precision ^ 2) as seen,
        (se_hits + 0.5) / (se_n + 1) as se, (sp_hits + 0.5) / (sp_n + 1) as sp
    from plain where youden > 0
), rated as (
    select *, least(1, greatest(0, (seen + sp - 1) / nullif(se + sp - 1, 0))) as rate,
        se * (1 - se) / (se_n + 1) as noise_se, sp * (1 - sp) / (sp_n + 1) as noise_sp
    from smoothed
), interval as (
    select *, 2 * {_Z}::double precision ^ 2 * (rate * noise_se - (1 - rate) * noise_sp) as shift,
        sqrt(seen * (1 - seen) / m + (1 - rate) ^ 2 * noise_sp + rate ^ 2 * noise_se) / nullif(se + sp - 1, 0) as error
    from rated
)
select
    least(1, greatest(0, (hits / n + sp_hits / sp_n - 1) / youden)),
    case when se + sp - 1 > 0 then least(1, greatest(0, rate + shift - {_Z} * error)) else 0 end,
    case when se + sp - 1 > 0 then least(1, greatest(0, rate + shift + {_Z} * error)) else 1 end
from interval
$$
"""

# Angelopoulos, Duchi, Zrnic (2023); monitor/drift/powered.py. No row where there is no rate.
POWERED = """
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

RATES = f"""
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

LAST_DAY = """
create view report.rates_of_the_last_day as
select
    tenant, service, environment, evaluator, judge_version, verdicts, audits, raw, raw_low, raw_high,
    corrected, corrected_low, corrected_high, powered, powered_low, powered_high
from report.hallucination_rates(now() - interval '1 day', now())
"""

LABELS = """
create view report.label_history as
select
    labels.tenant, verdicts.service, verdicts.environment, labels.trace_id, labels.evaluator, labels.actor,
    labels.label, labels.note, labels.labelled_at, verdicts.judge_version, verdicts.event_time,
    verdicts.first_label, verdicts.label as verdict, verdicts.probability
from labels
left join verdicts using (tenant, trace_id, evaluator)
"""


def upgrade() -> None:
    op.create_table(
        "label_draws",
        *[
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("draw_id", "tenant", "service", "environment", "evaluator")
        ],
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("eligible", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("drawn_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("draw_id", name="pk_label_draws"),
        sa.CheckConstraint("eligible > 0", name=op.f("ck_label_draws_eligible")),
        comment="Random samples of answers for people to label: whence, and out of how many.",
    )
    op.create_table(
        "label_tasks",
        *[sa.Column(name, sa.Text(), nullable=False) for name in ("draw_id", "tenant", "trace_id")],
        sa.PrimaryKeyConstraint("draw_id", "tenant", "trace_id", name="pk_label_tasks"),
        sa.ForeignKeyConstraint(
            ["draw_id"], ["label_draws.draw_id"], name="fk_label_tasks_draw_id_label_draws", ondelete="CASCADE"
        ),
        comment="The answers of each draw.",
    )
    op.create_table(
        "labels",
        *[sa.Column(name, sa.Text(), nullable=False) for name in ("tenant", "trace_id", "evaluator", "actor")],
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False, server_default=sa.text("''")),
        sa.Column("labelled_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("tenant", "trace_id", "evaluator", "actor", name="pk_labels"),
        sa.CheckConstraint("label in ('faithful', 'hallucinated')", name=op.f("ck_labels_label")),
        comment="What people say of answers: one row a person and answer, the last word of each.",
    )
    for made in (SUMS, WILSON, CORRECTED, POWERED, RATES, LAST_DAY, LABELS):
        op.execute(made)


def downgrade() -> None:
    op.execute("drop view report.label_history")
    op.execute("drop view report.rates_of_the_last_day")
    op.execute("drop function report.hallucination_rates")
    for name in ("rate_powered", "rate_corrected", "rate_wilson", "rate_sums"):
        op.execute(f"drop function {name}")
    for table in ("labels", "label_tasks", "label_draws"):
        op.drop_table(table)
