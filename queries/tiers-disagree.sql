-- Which answers did the pool judge otherwise than the local judges?
-- The clearest first: by how far the probability moved.
-- :since = 24h ago: from when on
-- :limit = 100: so many answers
select event_time, tenant, service, trace_id, first_label, first_probability, label, probability,
    abs(probability - first_probability) as moved, decided_by
from report.verdict_history
where revision > 0 and first_label is distinct from label
    and event_time >= :since::timestamptz
order by moved desc nulls last, event_time desc
limit :limit::bigint;
