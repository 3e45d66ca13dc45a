-- Which services have the highest hallucination rate?
-- The honest rates: the trusted word's where there is one, else corrected, else as labelled; by the lower end of the interval.
-- :since = 6h ago: from when on, counted from the beginning of that hour
-- :limit = 20: so many services
select tenant, service, environment, evaluator, judge_version, verdicts, audits,
    coalesce(powered, corrected, raw) as rate,
    coalesce(powered_low, corrected_low, raw_low) as at_least,
    coalesce(powered_high, corrected_high, raw_high) as at_most
from report.hallucination_rates(date_trunc('hour', :since::timestamptz, 'UTC'), now())
order by at_least desc, tenant, service
limit :limit::bigint;
