-- What share of answers is hallucinated, hour by hour?
-- As labelled by the current verdicts, not corrected for the judges' errors.
-- :hours = 24: how far back
-- :service = : only this service's
select hour, tenant, service, environment, verdicts, hallucinated, rate
from report.rates_per_hour
where hour >= now() - :hours::double precision * interval '1 hour'
    and (:service::text is null or service = :service::text)
order by hour, tenant, service, environment;
