-- Why could answers not be judged?
-- :hours = 24: how far back
select reason, service, count(*) as traces, max(event_time) as newest, min(trace_id) as for_example
from report.verdict_history
where outcome = 'unjudged' and event_time >= now() - :hours::double precision * interval '1 hour'
group by reason, service
order by traces desc, reason, service;
