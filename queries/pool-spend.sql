-- Who spends what on the pool?
-- :days = 30: how far back
select tenant, sum(calls) as calls, sum(settled) as settled, sum(tokens) as tokens, sum(usd) as usd
from report.pool_spend
where day >= current_date - :days::int
group by tenant
order by usd desc, tokens desc;
