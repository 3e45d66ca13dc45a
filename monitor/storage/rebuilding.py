"""Assessments as the judge worker made them, rebuilt from the ledger: for a trace that is to be judged once more."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Connection, RowMapping, and_, select, tuple_

from monitor.domain.judgement import (
    CouldNotJudge,
    JudgeIdentity,
    Judgement,
    Opinion,
    Tier,
    Unjudgeable,
    UnsupportedSpan,
    Usage,
    Window,
)
from monitor.domain.trace import Document, Origin, Trace
from monitor.domain.verdict import Assessment, Decision, Label, Verdict
from monitor.storage.tables import judgements, judges, traces, verdicts

VerdictKey = tuple[str, str, str, str]
"""Tenant, trace id, evaluator, judge version."""

_KEY = ("tenant", "trace_id", "evaluator", "judge_version")
_SPANS: Final = TypeAdapter(tuple[UnsupportedSpan, ...])
_WINDOWS: Final = TypeAdapter(tuple[Window, ...])
_DOCUMENTS: Final = TypeAdapter(tuple[Document, ...])


def rebuild(
    connection: Connection, keys: Sequence[VerdictKey], *, origin: Origin, decision: Decision
) -> list[Assessment]:
    """The assessments of traces that have a verdict; those whose texts or verdict are gone are left out.

    Args:
        connection: in a transaction.
        keys: whose.
        origin: stands in for the place in the topic, which a trace that has its verdict has no more use for.
        decision: why they are to be judged again.
    """
    wanted = tuple_(*[verdicts.c[name] for name in _KEY]).in_(keys)
    same = and_(*[traces.c[name] == verdicts.c[name] for name in ("tenant", "trace_id", "event_time")])
    payload = traces.c["question", "documents", "answer", "generator_model", "prompt_version", "tags"]
    query = (
        select(verdicts, *payload, *traces.c["otel_trace_id", "otel_span_id"])
        .join(traces, same)
        .where(wanted, verdicts.c.outcome == "verdict")
        .order_by(*[verdicts.c[name] for name in _KEY])
    )
    rows = connection.execute(query).mappings().all()
    said = _judgements(connection, keys)
    return [
        Assessment(
            trace=to_trace(row),
            origin=origin,
            evaluator=row["evaluator"],
            judge_version=row["judge_version"],
            judgements=tuple(said[_key(row)]),
            outcome=Verdict(
                label=Label(row["label"]),
                probability=row["probability"],
                reasoning=row["reasoning"],
                unsupported=_SPANS.validate_python(row["unsupported"]),
                decided_by=tuple(row["decided_by"]),
            ),
            decision=decision,
            judged_at=row["judged_at"],
        )
        for row in rows
    ]


def _key(row: RowMapping) -> VerdictKey:
    return row["tenant"], row["trace_id"], row["evaluator"], row["judge_version"]


def _judgements(connection: Connection, keys: Sequence[VerdictKey]) -> dict[VerdictKey, list[Judgement]]:
    query = (
        select(judgements, *judges.c["name", "tier", "model", "model_digest", "quantisation", "prompt_digest"])
        .join(judges, judges.c.judge == judgements.c.judge)
        .where(tuple_(*[judgements.c[name] for name in _KEY]).in_(keys))
        .order_by(judgements.c.sequence)
    )
    found: dict[VerdictKey, list[Judgement]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        found[_key(row)].append(_judgement(row))
    return found


def _judgement(row: RowMapping) -> Judgement:
    return Judgement(
        judge=JudgeIdentity(
            name=row["name"],
            tier=Tier(row["tier"]),
            model=row["model"],
            model_digest=row["model_digest"],
            quantisation=row["quantisation"],
            prompt_digest=row["prompt_digest"],
        ),
        result=_result(row),
        probability=row["probability"],
        latency_seconds=row["latency_us"] / 1e6,
        inclusion_probability=row["inclusion_probability"],
        chosen_because=row["chosen_because"],
    )


def _result(row: RowMapping) -> Opinion | CouldNotJudge:
    if row["reason"] is not None:
        return CouldNotJudge(reason=Unjudgeable(row["reason"]), detail=row["detail"] or "")
    usage = Usage(
        prompt_tokens=row["prompt_tokens"], completion_tokens=row["completion_tokens"], cost_usd=row["cost_usd"]
    )
    return Opinion(
        raw_score=row["raw_score"],
        unsupported=_SPANS.validate_python(row["unsupported"]),
        reasoning=row["reasoning"],
        usage=usage,
        windows=_WINDOWS.validate_python(row["windows"] or ()),
    )


def to_trace(row: RowMapping) -> Trace:
    """A row with the columns of `traces`, and `sampling_probability`, as the core knows it."""
    names: Sequence[str] = ("trace_id", "event_time", "tenant", "service", "environment", "question", "answer")
    marks = ("generator_model", "prompt_version", "otel_trace_id", "otel_span_id", "sampling_probability")
    values: dict[str, Any] = {name: row[name] for name in (*names, *marks)}
    return Trace(**values, documents=_DOCUMENTS.validate_python(row["documents"]), tags=dict(row["tags"]))
