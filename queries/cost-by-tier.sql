-- What does each judge cost, in money, tokens and time?
-- By whole UTC days of the answers.
-- :since = 1d ago: from the day of this time on
select costs.tier, costs.judge, sum(judgements)::bigint as judgements, sum(usd) as usd,
    sum(prompt_tokens)::bigint as prompt_tokens, sum(completion_tokens)::bigint as completion_tokens,
    sum(seconds) / nullif(sum(judgements), 0)::double precision as mean_seconds
from report.costs_per_day as costs
where day >= date_trunc('day', :since::timestamptz, 'UTC')
group by costs.tier, costs.judge
order by usd desc nulls last, judgements desc;
