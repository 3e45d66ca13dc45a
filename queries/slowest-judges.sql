-- Which judges are slow?
-- :hours = 24: how far back
select tier, judge_name, judge, count(*) as judgements,
    percentile_cont(0.5) within group (order by latency_seconds) as half_within_seconds,
    percentile_cont(0.95) within group (order by latency_seconds) as most_within_seconds,
    max(latency_seconds) as longest_seconds
from report.judgement_history
where judged_at >= now() - :hours::double precision * interval '1 hour'
group by tier, judge_name, judge
order by most_within_seconds desc;
