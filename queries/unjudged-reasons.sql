-- Why could answers not be judged?
-- :since = 24h ago: from when on
select reason, service, sum(traces)::bigint as traces, max(hour) as newest_hour
from report.unjudged(:since, now())
where outcome = 'unjudged'
group by reason, service
order by traces desc, reason, service;
