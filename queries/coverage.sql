-- How much of the traffic was judged, and how much of it by the pool?
-- `judged` is of the traffic that there was, sampled away or not.
-- Replays are left out, but for those of hours in which the same version judged traffic, too.
-- :since = 24h ago: from when on
select tenant, service, environment, evaluator, round(sum(estimated_traces)::numeric) as traffic,
    sum(traces - replayed) as taken, sum(verdicts) as verdicts, sum(verdicts) / nullif(sum(estimated_traces), 0) as judged,
    sum(pool_judged) as by_pool, sum(pool_judged)::double precision / nullif(sum(verdicts), 0) as pool_share
from report.coverage_per_hour
where hour >= :since::timestamptz and traces > replayed
group by tenant, service, environment, evaluator
order by traffic desc, tenant, service, evaluator;
