-- What was said about one trace, and on what evidence?
-- One row an unsupported stretch of the answer, with its words and those of the nearest passage; one row without where there is none.
-- :trace_id: the trace
select judged.tenant, judged.evaluator, judged.outcome, judged.label, judged.probability, judged.reasoning,
    substr(judged.answer, (span ->> 'start')::int + 1, (span ->> 'end')::int - (span ->> 'start')::int) as unsupported,
    (span ->> 'score')::double precision as score, span ->> 'document_id' as document_id,
    substr(document ->> 'text', (span ->> 'document_start')::int + 1,
        (span ->> 'document_end')::int - (span ->> 'document_start')::int) as nearest
from report.verdict_history as judged
left join lateral jsonb_array_elements(judged.unsupported) as span on true
left join lateral jsonb_array_elements(judged.documents) as document on document ->> 'id' = span ->> 'document_id'
where judged.trace_id = :trace_id::text
order by judged.tenant, judged.evaluator, judged.judge_version, score desc;
