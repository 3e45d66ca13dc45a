-- What does each judge cost, in money, tokens and time?
-- :hours = 24: how far back
select tier, judge_name, judge, count(*) as judgements, sum(cost_usd) as usd,
    sum(prompt_tokens) as prompt_tokens, sum(completion_tokens) as completion_tokens,
    avg(latency_seconds) as mean_seconds
from report.judgement_history
where judged_at >= now() - :hours::double precision * interval '1 hour'
group by tier, judge_name, judge
order by usd desc nulls last, judgements desc;
