"""The steps of a trace's lineage, read from where each is kept."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine, RowMapping, text

from monitor.storage.engine import snapshot
from monitor.storage.lineage import Happening, Step, TraceKey, in_order
from monitor.storage.lineage_letters import SEARCH_SECONDS, find_dead_letters

_SLICE_CHARACTERS = 200
Payloads: TypeAlias = Mapping[datetime, RowMapping]
"""Texts by event time: an id may have come again with another, and stand for another answer."""


def read_lineage(engine: Engine, key: TraceKey, *, search_seconds: float = SEARCH_SECONDS) -> list[Step]:
    """Everything that the ledger knows of a trace, as of one instant, the earliest first.

    Dead letters are looked through afterwards, for so many seconds: they may be many, and what is known of the trace
    itself is not to depend on that.

    Raises:
        LedgerUnavailable: Postgres is away, not migrated, or took longer than the statement timeout.
    """
    with snapshot(engine) as connection:
        payloads = _payloads(connection, key)
        verdicts = _all(connection, _VERDICTS, key)
        steps = [
            *_answered(payloads, verdicts),
            *_received(connection, key, verdicts),
            *(step for verdict in verdicts for step in _judged(connection, verdict, payloads)),
            *_escalated(connection, key),
            *(step for verdict in verdicts for step in _alerts(connection, verdict, payloads)),
            *_confirming(connection, key),
            *_of_people(connection, key, payloads),
        ]
    return in_order([*steps, *find_dead_letters(engine, key.trace_id, tenant=key.tenant, seconds=search_seconds)])


def _all(connection: Connection, query: str, key: TraceKey, **more: Any) -> list[RowMapping]:
    asked = {"tenant": key.tenant, "trace_id": key.trace_id, **more}
    return list(connection.execute(text(query), asked).mappings())


def _payloads(connection: Connection, key: TraceKey) -> Payloads:
    return {row["event_time"]: row for row in _all(connection, _PAYLOADS, key)}


def _answered(payloads: Payloads, verdicts: list[RowMapping]) -> Iterator[Step]:
    # An id that came again with another event time is another answer.
    for at, first in {verdict["event_time"]: verdict for verdict in reversed(verdicts)}.items():
        segment = {name: first[name] for name in ("service", "environment", "sampling_probability")}
        payload = payloads.get(at)
        texts = {name: payload[name] for name in _TEXTS} if payload else {}
        yield Step(happening=Happening.ANSWERED, at=at, facts={**segment, "texts_kept": bool(payload), **texts})


def _received(connection: Connection, key: TraceKey, verdicts: list[RowMapping]) -> Iterator[Step]:
    first = verdicts[0]["event_time"] if verdicts else None
    for row in _all(connection, _RECEIPTS, key):
        facts = dict(row)
        near = facts.pop("near") or first
        yield Step(happening=Happening.RECEIVED, at=None, near=near, facts=facts)


def _judged(connection: Connection, verdict: RowMapping, payloads: Payloads) -> Iterator[Step]:
    whose = _whose(verdict)
    at: datetime = verdict["judged_at"]
    payload = payloads.get(verdict["event_time"])
    revised_by = "pool"
    for row in _all(
        connection, _JUDGEMENTS, _key(verdict), verdict_id=verdict["verdict_id"], event_time=verdict["event_time"]
    ):
        facts = dict(row)
        facts["unsupported"] = _with_texts(facts["unsupported"], payload)
        if facts["judged_at"] == verdict["revised_at"] and facts["tier"] != "pool":
            revised_by = "replay"
        yield Step(happening=Happening.JUDGED, at=facts.pop("judged_at"), facts=facts, **whose)
    # Why the local judges had no verdict is overwritten once the pool has one.
    local = {"label": verdict["first_label"], "probability": verdict["first_probability"], **_replay(verdict)}
    failed = {name: verdict[name] if verdict["revision"] == 0 else None for name in ("reason", "detail")}
    first = local if verdict["first_label"] else {**local, **failed}
    yield Step(happening=Happening.FIRST_VERDICT, at=at, facts=first, **whose)
    decision = {name: verdict[name] for name in ("action", "decision_reason", "inclusion_probability")}
    yield Step(happening=Happening.DECIDED, at=at, facts=decision, **whose)
    for row in _all(connection, _ROLLUP, _key(verdict), **whose, **_segment(verdict)):
        # No detector hears of replays: there is nothing to have been seen.
        seen = row["seen_by_detector"] if verdict["replay_id"] is None else None
        yield Step(happening=Happening.COUNTED, at=None, near=at, facts={**row, "seen_by_detector": seen}, **whose)
    now = {name: verdict[name] for name in _CURRENT}
    now["unsupported"] = _with_texts(verdict["unsupported"], payload)
    now["answer"] = payload["answer"] if payload else None
    if verdict["revised_at"] is not None:
        revised = {name: now[name] for name in ("outcome", "label", "probability", "reason", "detail", "revision")}
        revised["by"] = revised_by
        yield Step(happening=Happening.REVISED, at=verdict["revised_at"], facts=revised, **whose)
    yield Step(
        happening=Happening.VERDICT,
        at=None,
        facts={**now, **_replay(verdict)},
        **whose,
    )


def _escalated(connection: Connection, key: TraceKey) -> Iterator[Step]:
    for row in _all(connection, _ESCALATIONS, key):
        whose = _whose(row)
        asked = {name: row[name] for name in ("reason", "priority")}
        yield Step(happening=Happening.ESCALATED, at=row["created_at"], facts=asked, **whose)
        tried = {name: row[name] for name in ("state", "attempts", "claims", "last_error", "waited_seconds")}
        if row["finished_at"] is None:
            yield Step(
                happening=Happening.WAITS, at=None, facts={**tried, "available_at": row["available_at"]}, **whose
            )
        else:
            yield Step(happening=Happening.SETTLED, at=row["finished_at"], facts=tried, **whose)


def _alerts(connection: Connection, verdict: RowMapping, payloads: Payloads) -> Iterator[Step]:
    whose = _whose(verdict)
    for row in _all(connection, _ALERTS, _key(verdict), **whose, **_segment(verdict)):
        facts = dict(row)
        facts["in_slice"] = _is_in_slice(payloads.get(verdict["event_time"]), row)
        if facts["in_slice"] is not False:
            yield Step(happening=Happening.ALERT, at=facts.pop("raised_at"), facts=facts, **whose)


def _confirming(connection: Connection, key: TraceKey) -> Iterator[Step]:
    # A sample names a trace and no time: it is told once, whichever of several answers with one id was drawn.
    for row in _all(connection, _SAMPLES, key):
        facts = dict(row)
        whose = {name: facts.pop(name) for name in ("evaluator", "judge_version")}
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


def _of_people(connection: Connection, key: TraceKey, payloads: Payloads) -> Iterator[Step]:
    otel = [key.trace_id, *{each for row in payloads.values() if (each := row["otel_trace_id"])}]
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


def _whose(verdict: RowMapping) -> dict[str, Any]:
    return {name: verdict[name] for name in ("evaluator", "judge_version", "event_time")}


def _replay(verdict: RowMapping) -> dict[str, Any]:
    return {name: verdict[name] for name in ("replay_id", "replayed_by")}


def _key(verdict: RowMapping) -> TraceKey:
    return TraceKey(tenant=verdict["tenant"], trace_id=verdict["trace_id"])


def _segment(verdict: RowMapping) -> dict[str, Any]:
    return {name: verdict[name] for name in ("service", "environment")}


_TEXTS = (
    *("question", "answer", "documents", "generator_model", "prompt_version", "tags"),
    *("otel_trace_id", "otel_span_id"),
)
_CURRENT = (
    *("outcome", "label", "probability", "reason", "detail", "reasoning", "unsupported", "decided_by"),
    *("revision", "revised_at"),
)

_PAYLOADS = "select * from traces where tenant = :tenant and trace_id = :trace_id"
_VERDICTS = """
select *, (select actor from replays where replays.replay_id = verdicts.replay_id) as replayed_by
from verdicts
where tenant = :tenant and trace_id = :trace_id
order by event_time, judged_at, judge_version
"""
_RECEIPTS = """
select
    topic, partition, "offset", min(outcome) as outcome, min(replay_id) as replay_id,
    min(case when replay_id is null then event_time else judged_at end) as near
from verdicts
where tenant = :tenant and trace_id = :trace_id
group by topic, partition, "offset"
union all
select topic, partition, "offset", 'duplicate', null, null
from duplicates join topics using (topic_id)
where tenant = :tenant and trace_id = :trace_id
order by topic, partition, "offset"
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
    and said.verdict_id = :verdict_id and said.event_time = :event_time
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
select
    alert_id, raised_at, sample.later, confirmation ->> 'state' as confirmation,
    sample.evaluator, sample.judge_version
from confirmation_samples as sample
join alerts using (alert_id)
where sample.tenant = :tenant and sample.trace_id = :trace_id
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
    or otel_trace_id = any(:otel) and not exists (
        select from verdicts as own where own.tenant = said.tenant and own.trace_id = said.trace_id
    )
)
"""
