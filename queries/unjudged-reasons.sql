-- Why could answers not be judged?
-- :hours = 24: how far back
select reason, service, sum(traces)::bigint as traces, max(hour) as newest_hour
from report.unjudged_per_hour
where outcome = 'unjudged' and hour >= now() - :hours::double precision * interval '1 hour'
group by reason, service
order by traces desc, reason, service;
