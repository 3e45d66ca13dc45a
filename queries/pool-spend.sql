-- Who spends what on the pool?
-- :since = 30d ago: from the UTC day of this time on
select tenant, sum(calls) as calls, sum(settled) as settled, sum(tokens) as tokens, sum(usd) as usd
from report.pool_spend
where day >= (:since::timestamptz at time zone 'UTC')::date
group by tenant
order by usd desc, tokens desc;
