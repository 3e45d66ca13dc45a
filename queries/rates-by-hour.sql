-- What share of answers is hallucinated, hour by hour?
-- As labelled by the current verdicts, not corrected for the judges' errors.
-- :since = 24h ago: from when on
-- :service = : only this service's
select hour, tenant, service, environment, evaluator, judge_version, verdicts, hallucinated, rate
from report.rates_per_hour
where hour >= :since::timestamptz
    and (:service::text is null or service = :service::text)
order by hour, tenant, service, environment, evaluator, judge_version;
