-- What does each judge cost, in money, tokens and time?
-- By UTC days of the answers, today included.
-- :days = 1: how many days back
select costs.tier, costs.judge, sum(judgements)::bigint as judgements, sum(usd) as usd,
    sum(prompt_tokens)::bigint as prompt_tokens, sum(completion_tokens)::bigint as completion_tokens,
    sum(seconds) / nullif(sum(judgements), 0)::double precision as mean_seconds
from report.costs_per_day as costs
where day >= date_trunc('day', now(), 'UTC') - :days::double precision * interval '1 day'
group by costs.tier, costs.judge
order by usd desc nulls last, judgements desc;
