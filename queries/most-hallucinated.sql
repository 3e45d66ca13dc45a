-- Which answers are most surely hallucinated?
-- :since = 1h ago: from when on
-- :service = : only this service's
-- :limit = 20: so many answers
select event_time, tenant, service, trace_id, probability, question, answer, reasoning
from report.verdict_history
where label = 'hallucinated' and event_time >= :since::timestamptz
    and (:service::text is null or service = :service::text)
order by probability desc, event_time desc
limit :limit::bigint;
