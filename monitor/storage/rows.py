"""From domain objects to rows: plain tuples, in the order of the staging tables' columns.

Judges quote hostile text, so every string passes `storable` here, at the last door before Postgres.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any, NamedTuple

from monitor.domain.dead_letter import DeadLetter
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Judgement, Opinion, Tier, UnsupportedSpan, Window
from monitor.domain.trace import Origin, Trace
from monitor.domain.verdict import Action, Assessment, Verdict
from monitor.storage.engine import LedgerRefused
from monitor.wire import encode_assessment

Row = tuple[Any, ...]

_SPAN_FIELDS = tuple(field.name for field in fields(UnsupportedSpan))


class JudgementColumns(NamedTuple):
    """What `judgements` says about one judge's word."""

    judge: str
    raw_score: float | None
    probability: float | None
    reason: str | None
    detail: str | None
    reasoning: str | None
    unsupported: str
    latency_us: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    inclusion_probability: float
    chosen_because: str
    windows: str | None


class OutcomeColumns(NamedTuple):
    """What `verdicts` says about how a trace stands."""

    outcome: str
    label: str | None
    probability: float | None
    reason: str | None
    detail: str | None
    reasoning: str | None
    unsupported: str
    decided_by: list[str]


def storable(text: str) -> str:
    """The same text without NUL and lone surrogates, which Postgres stores nowhere; as many characters."""
    text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def storable_json(value: Any) -> str:
    """JSON text that a jsonb column takes.

    Raises:
        LedgerRefused: it holds NaN or an infinity.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise LedgerRefused(f"not JSON: {error}") from error
    if "\\u0000" in text:
        text = json.dumps(_without_nul(value), ensure_ascii=False, separators=(",", ":"))
    return storable(text)


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(item) for item in value]
    return value


def _optional(text: str | None) -> str | None:
    return None if text is None else storable(text)


def microseconds(judgement: Judgement) -> int:
    """Latency as the ledger keeps it: whole microseconds, so that sums are exact in any order."""
    return round(judgement.latency_seconds * 1_000_000)


@lru_cache(maxsize=256)
def judge_version(judge: JudgeIdentity) -> str:
    """The judge's version; a digest, hence not worked out anew for every row."""
    return judge.version


def position(origin: Origin) -> Row:
    """(topic, partition, offset), where the topic is one life of it."""
    return origin.log, origin.partition, origin.offset


def payload(trace: Trace) -> Row:
    """The payload columns of `traces`."""
    documents = [
        {"id": doc.id, "text": doc.text, "score": doc.score, "metadata": dict(doc.metadata)} for doc in trace.documents
    ]
    return (
        storable(trace.question),
        storable_json(documents),
        storable(trace.answer),
        _optional(trace.generator_model),
        _optional(trace.prompt_version),
        storable_json(dict(trace.tags)),
        trace.otel_trace_id,
        trace.otel_span_id,
    )


def spans(unsupported: Iterable[UnsupportedSpan]) -> str:
    """Unsupported spans as JSON."""
    return storable_json([{name: getattr(span, name) for name in _SPAN_FIELDS} for span in unsupported])


def _windows(windows: Iterable[Window]) -> str:
    """Windows as JSON."""
    return storable_json(
        [
            {"raw_score": window.raw_score, "passages": [asdict(passage) for passage in window.passages]}
            for window in windows
        ]
    )


def judgement_columns(judgement: Judgement) -> JudgementColumns:
    """One judge's word; the judge itself is a row of `judges`."""
    result = judgement.result
    opinion = result if isinstance(result, Opinion) else None
    failure = result if isinstance(result, CouldNotJudge) else None
    return JudgementColumns(
        judge=judge_version(judgement.judge),
        raw_score=opinion.raw_score if opinion else None,
        probability=judgement.probability,
        reason=failure.reason.value if failure else None,
        detail=storable(failure.detail) if failure else None,
        reasoning=_optional(opinion.reasoning) if opinion else None,
        unsupported=spans(opinion.unsupported if opinion else ()),
        latency_us=microseconds(judgement),
        prompt_tokens=opinion.usage.prompt_tokens if opinion else 0,
        completion_tokens=opinion.usage.completion_tokens if opinion else 0,
        cost_usd=opinion.usage.cost_usd if opinion else 0.0,
        inclusion_probability=judgement.inclusion_probability,
        chosen_because=storable(judgement.chosen_because),
        windows=_windows(opinion.windows) if opinion and opinion.windows else None,
    )


def outcome_columns(outcome: Verdict | CouldNotJudge, *, escalated: bool) -> OutcomeColumns:
    """How a trace stands: judged, or not and why; `pending` as long as the pool may still judge it."""
    if isinstance(outcome, CouldNotJudge):
        return OutcomeColumns(
            outcome="pending" if escalated else "unjudged",
            label=None,
            probability=None,
            reason=outcome.reason.value,
            detail=storable(outcome.detail),
            reasoning=None,
            unsupported="[]",
            decided_by=[],
        )
    return OutcomeColumns(
        outcome="verdict",
        label=outcome.label.value,
        probability=outcome.probability,
        reason=None,
        detail=None,
        reasoning=_optional(outcome.reasoning),
        unsupported=spans(outcome.unsupported),
        decided_by=list(outcome.decided_by),
    )


def assessment_row(number: int, assessment: Assessment) -> Row:
    """A row of `stage_assessments`."""
    trace, decision = assessment.trace, assessment.decision
    escalated = decision.action is Action.ESCALATE
    pool = [judgement for judgement in assessment.judgements if judgement.judge.tier is Tier.POOL]
    local = [judgement for judgement in assessment.judgements if judgement.judge.tier is not Tier.POOL]
    return (
        number,
        *position(assessment.origin),
        *(trace.tenant, trace.trace_id, assessment.evaluator, assessment.judge_version),
        *(trace.service, trace.environment, trace.event_time, assessment.judged_at),
        *payload(trace),
        *outcome_columns(assessment.outcome, escalated=escalated),
        *(decision.action.value, storable(decision.reason), decision.inclusion_probability),
        *(trace.sampling_probability, decision.priority),
        storable(encode_assessment(assessment).decode()) if escalated else None,
        sum(isinstance(judgement.result, Opinion) for judgement in pool),
        sum(map(microseconds, local)),
        sum(map(microseconds, pool)),
        assessment.origin.replay_id,
    )


def judgement_rows(number: int, assessment: Assessment) -> Iterable[Row]:
    """Rows of `stage_judgements`, in the order in which the judges spoke."""
    for sequence, judgement in enumerate(assessment.judgements):
        yield number, sequence, *judgement_columns(judgement)


def judge_row(judge: JudgeIdentity) -> Row:
    """A row of `judges`."""
    return (
        judge_version(judge),
        judge.name,
        judge.tier.value,
        judge.model,
        judge.model_digest,
        judge.quantisation,
        judge.prompt_digest,
    )


def dead_letter_row(letter: DeadLetter) -> Row:
    """A row of `stage_dead_letters`."""
    return (
        *position(letter.origin),
        letter.reason.value,
        storable(letter.detail),
        _optional(letter.field),
        letter.raw,
        letter.raw_bytes,
        letter.dead_at,
    )
