"""What is asked for one hour of each exported dataset. Columns stand in the export's order; lists and the like as JSON.

Rows come in the order of segment and time: what is alike lies together, so it packs well, and a reader of one tenant
or service skips the rest.
"""

from collections.abc import Mapping
from typing import Final

_OF_TENANT = "(%(tenant)s::text is null or {alias}tenant = %(tenant)s)"
_IN_HOUR = "{alias}event_time >= %(since)s and {alias}event_time < %(since)s + interval '1 hour'"

_VERDICTS = f"""
select
    tenant, service, environment, trace_id, evaluator, judge_version, event_time, judged_at,
    outcome, label, probability, reason, detail, first_label, first_probability, revision, revised_at,
    reasoning, unsupported, to_json(decided_by), action, decision_reason, inclusion_probability, sampling_probability,
    replay_id
from verdicts
where {_IN_HOUR.format(alias="")} and {_OF_TENANT.format(alias="")}
order by tenant, service, environment, event_time, trace_id, evaluator, judge_version
"""  # noqa: S608 - constants are put in

_JUDGEMENTS = f"""
select
    v.tenant, v.service, v.environment, v.trace_id, v.evaluator, v.judge_version, v.event_time,
    j.sequence, j.judge, judges.name, judges.tier, judges.model, judges.model_digest, judges.quantisation,
    judges.prompt_digest, j.judged_at, j.raw_score, j.probability, j.reason, j.detail, j.reasoning, j.unsupported,
    j.latency_us, j.prompt_tokens, j.completion_tokens, j.cost_usd, j.inclusion_probability, j.chosen_because,
    j.windows
from verdicts as v
join judgements as j on j.verdict_id = v.verdict_id and {_IN_HOUR.format(alias="j.")}
join judges using (judge)
where {_IN_HOUR.format(alias="v.")} and {_OF_TENANT.format(alias="v.")}
order by v.tenant, v.service, v.environment, v.event_time, v.trace_id, v.evaluator, v.judge_version, j.sequence
"""  # noqa: S608 - constants are put in

_ROLLUPS = f"""
select
    tenant, service, environment, evaluator, judge_version, minute,
    traces, total, hallucinated, hallucinated::double precision / nullif(total, 0), sum_probability::double precision,
    first_total, first_hallucinated, unjudged, pending, escalated, pool_judged,
    (traces + left_out)::double precision, local_latency_us, pool_latency_us, last_event_time, replayed
from rollups
where minute >= %(since)s and minute < %(since)s + interval '1 hour' and {_OF_TENANT.format(alias="")}
order by tenant, service, environment, minute, evaluator, judge_version
"""  # noqa: S608 - constants are put in

_TEXTS = f"""
select
    tenant, service, environment, trace_id, event_time, question, documents, answer,
    generator_model, prompt_version, tags, otel_trace_id, otel_span_id
from traces
where {_IN_HOUR.format(alias="")} and {_OF_TENANT.format(alias="")}
order by tenant, service, environment, event_time, trace_id
"""  # noqa: S608 - constants are put in

QUERIES: Final[Mapping[str, str]] = {
    "verdicts": _VERDICTS,
    "judgements": _JUDGEMENTS,
    "rollups": _ROLLUPS,
    "texts": _TEXTS,
}
