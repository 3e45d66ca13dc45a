"""The steps of a trace's lineage, read from where each is kept."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, text

from monitor.storage.engine import snapshot
from monitor.storage.lineage import Happening, Step, TraceKey, in_order

_MOST_LETTERS = 20
_SLICE_CHARACTERS = 200


def read_lineage(engine: Engine, key: TraceKey) -> list[Step]:
    """Everything that the ledger knows of a trace, as of one instant, the earliest first.

    Raises:
        LedgerUnavailable: Postgres is away, not migrated, or took longer than the statement timeout.
    """
    with snapshot(engine) as connection:
        payload = _payload(connection, key)
        verdicts = _all(connection, _VERDICTS, key)
        steps = [
            *_answered(payload, verdicts),
            *_received(connection, key, verdicts),
            *_dead_letters(connection, key.trace_id, tenant=key.tenant),
            *(step for verdict in verdicts for step in _judged(connection, verdict, payload)),
            *_escalated(connection, key),
            *(step for verdict in verdicts for step in _alerts(connection, verdict, payload)),
            *_of_people(connection, key, payload),
        ]
    return in_order(steps)


def read_dead_letters(engine: Engine, trace_id: str) -> list[Step]:
    """Dead letters in which this id stands, whosever they are.

    Raises:
        LedgerUnavailable: Postgres is away, not migrated, or took longer than the statement timeout.
    """
    with snapshot(engine) as connection:
        return in_order(list(_dead_letters(connection, trace_id)))


def _all(connection: Connection, query: str, key: TraceKey, **more: Any) -> list[RowMapping]:
    asked = {"tenant": key.tenant, "trace_id": key.trace_id, **more}
    return list(connection.execute(text(query), asked).mappings())


def _payload(connection: Connection, key: TraceKey) -> RowMapping | None:
    return next(iter(_all(connection, _PAYLOAD, key)), None)


def _answered(payload: RowMapping | None, verdicts: list[RowMapping]) -> Iterator[Step]:
    if not verdicts:
        return
    first = verdicts[0]
    segment = {name: first[name] for name in ("service", "environment", "sampling_probability")}
    texts = {name: payload[name] for name in _TEXTS} if payload else {}
    yield Step(
        happening=Happening.ANSWERED, at=first["event_time"], facts={**segment, "texts_kept": bool(payload), **texts}
    )


def _received(connection: Connection, key: TraceKey, verdicts: list[RowMapping]) -> Iterator[Step]:
    near = verdicts[0]["event_time"] if verdicts else None
    for row in _all(connection, _RECEIPTS, key):
        yield Step(happening=Happening.RECEIVED, at=None, near=near, facts=dict(row))


def _dead_letters(connection: Connection, trace_id: str, *, tenant: str | None = None) -> Iterator[Step]:
    """Dead letters in which this id stands as a JSON string, but those that name another tenant."""
    needles = [json.dumps(trace_id, ensure_ascii=escaped).encode(errors="replace") for escaped in (True, False)]
    asked = {"one": needles[0], "other": needles[1], "limit": _MOST_LETTERS}
    for row in connection.execute(text(_DEAD_LETTERS), asked).mappings():
        facts = dict(row)
        named = _tenant_in(bytes(facts.pop("raw")))
        if tenant is None or named in (None, tenant):
            at = facts.pop("dead_at")
            yield Step(happening=Happening.DEAD_LETTER, at=at, facts={**facts, "names_tenant": named})


def _tenant_in(raw: bytes) -> str | None:
    try:
        read = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    named = read.get("tenant") if isinstance(read, dict) else None
    return named if isinstance(named, str) else None


def _judged(connection: Connection, verdict: RowMapping, payload: RowMapping | None) -> Iterator[Step]:
    whose = {name: verdict[name] for name in ("evaluator", "judge_version")}
    at: datetime = verdict["judged_at"]
    for row in _all(connection, _JUDGEMENTS, _key(verdict), **whose):
        facts = dict(row)
        facts["unsupported"] = _with_texts(facts["unsupported"], _same(payload, verdict))
        yield Step(happening=Happening.JUDGED, at=facts.pop("judged_at"), facts=facts, **whose)
    # Why the local judges had no verdict is overwritten once the pool has one.
    local = {"label": verdict["first_label"], "probability": verdict["first_probability"]}
    failed = {name: verdict[name] if verdict["revision"] == 0 else None for name in ("reason", "detail")}
    first = local if verdict["first_label"] else {**local, **failed}
    yield Step(happening=Happening.FIRST_VERDICT, at=at, facts=first, **whose)
    decision = {name: verdict[name] for name in ("action", "decision_reason", "inclusion_probability")}
    yield Step(happening=Happening.DECIDED, at=at, facts=decision, **whose)
    for row in _all(connection, _ROLLUP, _key(verdict), **whose, **_segment(verdict)):
        yield Step(happening=Happening.COUNTED, at=None, near=at, facts=dict(row), **whose)
    now = {name: verdict[name] for name in _CURRENT}
    now["unsupported"] = _with_texts(verdict["unsupported"], _same(payload, verdict))
    now["answer"] = payload["answer"] if payload and _same(payload, verdict) else None
    if verdict["revised_at"] is not None:
        revised = {name: now[name] for name in ("outcome", "label", "probability", "reason", "detail", "revision")}
        yield Step(happening=Happening.REVISED, at=verdict["revised_at"], facts=revised, **whose)
    yield Step(happening=Happening.VERDICT, at=None, facts=now, **whose)


def _escalated(connection: Connection, key: TraceKey) -> Iterator[Step]:
    for row in _all(connection, _ESCALATIONS, key):
        whose = {name: row[name] for name in ("evaluator", "judge_version")}
        asked = {name: row[name] for name in ("reason", "priority")}
        yield Step(happening=Happening.ESCALATED, at=row["created_at"], facts=asked, **whose)
        tried = {name: row[name] for name in ("state", "attempts", "claims", "last_error", "waited_seconds")}
        if row["finished_at"] is None:
            yield Step(
                happening=Happening.WAITS, at=None, facts={**tried, "available_at": row["available_at"]}, **whose
            )
        else:
            yield Step(happening=Happening.SETTLED, at=row["finished_at"], facts=tried, **whose)


def _alerts(connection: Connection, verdict: RowMapping, payload: RowMapping | None) -> Iterator[Step]:
    whose = {name: verdict[name] for name in ("evaluator", "judge_version")}
    for row in _all(connection, _ALERTS, _key(verdict), **whose, **_segment(verdict)):
        facts = dict(row)
        facts["in_slice"] = _is_in_slice(payload, row)
        if facts["in_slice"] is not False:
            yield Step(happening=Happening.ALERT, at=facts.pop("raised_at"), facts=facts, **whose)
    for row in _all(connection, _SAMPLES, _key(verdict), **whose):
        facts = dict(row)
        yield Step(happening=Happening.CONFIRMING, at=facts.pop("raised_at"), facts=facts, **whose)


def _is_in_slice(payload: RowMapping | None, alert: RowMapping) -> bool | None:
    """Whether the trace is in the slice that the alert is about; None where its texts are kept no longer."""
    dimension = alert["dimension"]
    if dimension is None:
        return True
    if payload is None:
        return None
    plain = ("generator_model", "prompt_version")
    marked = payload[dimension] if dimension in plain else payload["tags"].get(dimension)
    return marked is not None and marked[:_SLICE_CHARACTERS] == alert["value"]


def _of_people(connection: Connection, key: TraceKey, payload: RowMapping | None) -> Iterator[Step]:
    otel = payload["otel_trace_id"] if payload else None
    for query, happening in (
        (_DRAWS, Happening.DRAWN),
        (_LABELS, Happening.LABELLED),
        (_FEEDBACK, Happening.FEEDBACK),
    ):
        for row in _all(connection, query, key, **({"otel": otel} if happening is Happening.FEEDBACK else {})):
            facts = dict(row)
            evaluator = facts.pop("evaluator", None)
            yield Step(happening=happening, at=facts.pop("at"), facts=facts, evaluator=evaluator)


def _with_texts(spans: list[dict[str, Any]], payload: RowMapping | None) -> list[dict[str, Any]]:
    """The spans, each with what it says and what its nearest support says, where the texts are kept."""
    if payload is None:
        return spans
    documents = {document["id"]: document["text"] for document in payload["documents"]}
    return [
        {
            **span,
            "text": payload["answer"][span["start"] : span["end"]],
            "support": documents.get(span["document_id"], "")[span["document_start"] or 0 : span["document_end"] or 0],
        }
        for span in spans
    ]


def _same(payload: RowMapping | None, verdict: RowMapping) -> RowMapping | None:
    # An id that came again with another event time has another answer: offsets do not mean its words.
    return payload if payload and payload["event_time"] == verdict["event_time"] else None


def _key(verdict: RowMapping) -> TraceKey:
    return TraceKey(tenant=verdict["tenant"], trace_id=verdict["trace_id"])


def _segment(verdict: RowMapping) -> dict[str, Any]:
    return {name: verdict[name] for name in ("service", "environment", "event_time")}


_TEXTS = (
    *("question", "answer", "documents", "generator_model", "prompt_version", "tags"),
    *("otel_trace_id", "otel_span_id"),
)
_CURRENT = (
    *("outcome", "label", "probability", "reason", "detail", "reasoning", "unsupported", "decided_by"),
    *("revision", "revised_at"),
)

_PAYLOAD = "select * from traces where tenant = :tenant and trace_id = :trace_id"
_VERDICTS = "select * from verdicts where tenant = :tenant and trace_id = :trace_id order by judged_at, judge_version"
_RECEIPTS = """
select topic, partition, "offset", min(outcome) as outcome from verdicts
where tenant = :tenant and trace_id = :trace_id
group by topic, partition, "offset"
union all
select topic, partition, "offset", 'duplicate'
from duplicates join topics using (topic_id)
where tenant = :tenant and trace_id = :trace_id
order by topic, partition, "offset"
"""
_DEAD_LETTERS = """
select topic, partition, "offset", dead_at, reason, field, detail, raw_bytes, raw from dead_letters
where position(cast(:one as bytea) in raw) > 0 or position(cast(:other as bytea) in raw) > 0
order by dead_at desc
limit :limit
"""
_JUDGEMENTS = """
select
    said.sequence, said.judge, judges.name as judge_name, judges.tier, judges.model, judges.model_digest,
    judges.quantisation, judges.prompt_digest, said.judged_at, said.raw_score, said.probability, said.reason,
    said.detail, said.reasoning, said.unsupported, said.chosen_because, said.inclusion_probability,
    said.latency_us / 1e6::double precision as latency_seconds,
    said.prompt_tokens, said.completion_tokens, said.cost_usd, said.windows
from judgements as said
left join judges using (judge)
where said.tenant = :tenant and said.trace_id = :trace_id
    and said.evaluator = :evaluator and said.judge_version = :judge_version
order by said.sequence
"""
_ROLLUP = """
select minute, total as verdicts, hallucinated, folded_total is not null as seen_by_detector from rollups
where tenant = :tenant and service = :service and environment = :environment
    and evaluator = :evaluator and judge_version = :judge_version
    and minute = date_trunc('minute', cast(:event_time as timestamptz), 'UTC')
"""
_ESCALATIONS = """
select *, extract(epoch from coalesce(finished_at, now()) - created_at)::double precision as waited_seconds
from escalations
where tenant = :tenant and trace_id = :trace_id
order by id
"""
_ALERTS = """
select
    alert_id, state, severity, direction, raised_at, change_at, rate_before, rate_after, resolved_at, dimension, value,
    confirmation ->> 'state' as confirmation
from alerts
where tenant = :tenant and service = :service and environment = :environment
    and evaluator = :evaluator and judge_version = :judge_version
    and coalesce(change_earliest, change_at) <= :event_time and (resolved_at is null or :event_time < resolved_at)
order by raised_at, alert_id
"""
_SAMPLES = """
select alert_id, raised_at, sample.later, confirmation ->> 'state' as confirmation
from confirmation_samples as sample
join alerts using (alert_id)
where sample.tenant = :tenant and sample.trace_id = :trace_id
    and sample.evaluator = :evaluator and sample.judge_version = :judge_version
order by alert_id
"""
_DRAWS = """
select draw_id, draw.evaluator, draw.actor, draw.eligible, draw.drawn_at as at
from label_tasks as task
join label_draws as draw using (draw_id)
where task.tenant = :tenant and task.trace_id = :trace_id
"""
_LABELS = """
select evaluator, actor, label, note, labelled_at as at from labels
where tenant = :tenant and trace_id = :trace_id
"""
# An id of OpenTelemetry's stands for every answer of that trace; the answer's own id, where it is known, says more.
_FEEDBACK = """
select feedback_id, source, thumb, outcome, corrected_answer, comment, given_at as at,
    case when trace_id = :trace_id then 'trace_id' else 'otel_trace_id' end as joined_by
from feedback as said
where tenant = :tenant and (
    trace_id = :trace_id
    or otel_trace_id in (:otel, :trace_id) and not exists (
        select from verdicts as own where own.tenant = said.tenant and own.trace_id = said.trace_id
    )
)
"""
