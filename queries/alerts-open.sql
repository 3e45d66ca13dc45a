-- Which alerts are open, and since when?
select tenant, service, environment, state, severity, direction, rate_before, rate_after, change_at, raised_at,
    confirmation, dimension, value, alert_id
from report.alert_history
where state <> 'resolved'
order by raised_at desc;
