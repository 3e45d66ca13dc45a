-- Which judges are slow, and which fail?
-- By whole UTC days of the answers.
-- :since = 1d ago: from the day of this time on
select costs.tier, costs.judge, sum(judgements)::bigint as judgements,
    sum(seconds) / nullif(sum(judgements), 0)::double precision as mean_seconds,
    sum(not_judged)::double precision / nullif(sum(judgements), 0)::double precision as failed_share
from report.costs_per_day as costs
where day >= date_trunc('day', :since::timestamptz, 'UTC')
group by costs.tier, costs.judge
order by mean_seconds desc;
