-- Do users and the judges see it alike, where users say anything?
-- Feedback is counted, each once; those who say something are no sample of those who do not.
-- :days = 7: how far back
select service, label, thumb, count(distinct (tenant, feedback_id)) as feedback, avg(probability) as mean_probability
from report.feedback
where thumb is not null and label is not null and given_at >= now() - :days::double precision * interval '1 day'
group by service, label, thumb
order by service, label, thumb;
