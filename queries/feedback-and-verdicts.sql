-- Do users and the judges see it alike, where users say anything?
-- Feedback is counted, each once; those who say something are no sample of those who do not.
-- :since = 12h ago: from when on it was given
select service, label, thumb, count(distinct (tenant, feedback_id)) as feedback, avg(probability) as mean_probability
from report.feedback_given(:since, now())
where thumb is not null and label is not null
group by service, label, thumb
order by service, label, thumb;
