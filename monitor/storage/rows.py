"""From domain objects to rows: plain tuples, in the order in which they are copied.

Judges quote hostile text, so every string passes `storable` here, at the last door before Postgres.
"""

from collections.abc import Iterable
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any, NamedTuple

from monitor.domain.dead_letter import DeadLetter
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Judgement, UnsupportedSpan, Usage, Window
from monitor.domain.trace import Origin, Trace
from monitor.domain.verdict import Action, Assessment, Label, Verdict
from monitor.storage.storable import storable, storable_json
from monitor.wire import encode_assessment

Row = tuple[Any, ...]

_NO_USAGE = Usage()
_SPAN_FIELDS = tuple(field.name for field in fields(UnsupportedSpan))


class JudgementColumns(NamedTuple):
    """What `judgement_rows` says about one judge's word; who spoke, and why it was asked, are a row of `choices`.

    What is usual (no tokens, no cost, asked with certainty) is absent.
    """

    raw_score: float | None
    probability: float | None
    reason: str | None
    detail: str | None
    reasoning: str | None
    unsupported: str | None
    latency_us: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    inclusion_probability: float | None
    windows: str | None


class OutcomeColumns(NamedTuple):
    """What `verdict_rows` says about how a trace stands: `outcome` is v(erdict), u(njudged) or p(ending)."""

    outcome: str
    hallucinated: bool | None
    probability: float | None
    reason: str | None
    detail: str | None
    reasoning: str | None
    unsupported: str | None


def _optional(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _unless_one(probability: float) -> float | None:
    return None if probability == 1 else probability  # certain is the rule, and what is absent takes no room


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


def payload_row(trace: Trace) -> Row:
    """A row of `payloads`."""
    documents = [
        {"id": doc.id, "text": doc.text, "score": doc.score, "metadata": dict(doc.metadata)} for doc in trace.documents
    ]
    return (
        *(trace.event_time, trace.tenant, trace.trace_id, trace.service, trace.environment),
        storable(trace.question),
        storable_json(documents),
        storable(trace.answer),
        _optional(trace.generator_model),
        _optional(trace.prompt_version),
        storable_json(dict(trace.tags)),
        trace.otel_trace_id,
        trace.otel_span_id,
    )


def spans(unsupported: Iterable[UnsupportedSpan]) -> str | None:
    """Unsupported spans as JSON; None where there are none."""
    found = [{name: getattr(span, name) for name in _SPAN_FIELDS} for span in unsupported]
    return storable_json(found) if found else None


def _windows(windows: Iterable[Window]) -> str:
    """Windows as JSON."""
    return storable_json(
        [
            {"raw_score": window.raw_score, "passages": [asdict(passage) for passage in window.passages]}
            for window in windows
        ]
    )


def judgement_columns(judgement: Judgement) -> JudgementColumns:
    """One judge's word."""
    result = judgement.result
    if isinstance(result, CouldNotJudge):
        score, reason, detail = None, result.reason.value, storable(result.detail)
        reasoning, unsupported, windows, usage = None, None, None, _NO_USAGE
    else:
        score, reason, detail = result.raw_score, None, None
        reasoning, unsupported, usage = _optional(result.reasoning), spans(result.unsupported), result.usage
        windows = _windows(result.windows) if result.windows else None
    return JudgementColumns(
        raw_score=score,
        probability=judgement.probability,
        reason=reason,
        detail=detail,
        reasoning=reasoning,
        unsupported=unsupported,
        latency_us=microseconds(judgement),
        prompt_tokens=usage.prompt_tokens or None,
        completion_tokens=usage.completion_tokens or None,
        cost_usd=usage.cost_usd or None,
        inclusion_probability=_unless_one(judgement.inclusion_probability),
        windows=windows,
    )


def choice_words(judgement: Judgement) -> tuple[str, str]:
    """A row of `choices`, without its number."""
    return judge_version(judgement.judge), storable(judgement.chosen_because)


def outcome_columns(outcome: Verdict | CouldNotJudge, *, escalated: bool) -> OutcomeColumns:
    """How a trace stands: judged, or not and why; pending as long as the pool may still judge it."""
    if isinstance(outcome, CouldNotJudge):
        return OutcomeColumns(
            outcome="p" if escalated else "u",
            hallucinated=None,
            probability=None,
            reason=outcome.reason.value,
            detail=storable(outcome.detail),
            reasoning=None,
            unsupported=None,
        )
    return OutcomeColumns(
        outcome="v",
        hallucinated=outcome.label is Label.HALLUCINATED,
        probability=outcome.probability,
        reason=None,
        detail=None,
        reasoning=_optional(outcome.reasoning),
        unsupported=spans(outcome.unsupported),
    )


def decided_by(outcome: Verdict | CouldNotJudge) -> tuple[str, ...]:
    """The judges whose word carried weight."""
    return tuple(outcome.decided_by) if isinstance(outcome, Verdict) else ()


def segment_words(assessment: Assessment) -> tuple[str, str, str, str, str]:
    """A row of `segments`, without its number."""
    trace = assessment.trace
    return trace.tenant, trace.service, trace.environment, assessment.evaluator, assessment.judge_version


def decision_words(assessment: Assessment) -> tuple[str, str, tuple[str, ...]]:
    """A row of `decisions`, without its number."""
    decision = assessment.decision
    return decision.action.value, storable(decision.reason), decided_by(assessment.outcome)


def verdict_row(assessment: Assessment, outcome: OutcomeColumns, ids: tuple[int, int, int, int]) -> Row:
    """A row of `verdict_rows`, in the order of `COPY_VERDICTS`; ids of verdict, segment, decision and topic."""
    verdict_id, segment_id, decision_id, topic_id = ids
    trace, origin = assessment.trace, assessment.origin
    return (
        *(verdict_id, trace.event_time, assessment.judged_at, origin.offset),
        *(outcome.probability, outcome.probability, assessment.decision.inclusion_probability),
        _unless_one(trace.sampling_probability),
        origin.replay_id,
        *(segment_id, decision_id, topic_id, origin.partition),
        *(
            outcome.outcome,
            assessment.decision.action is Action.ESCALATE,
            outcome.hallucinated,
            outcome.hallucinated,
            trace.trace_id,
        ),
        *(outcome.reason, outcome.detail, outcome.reasoning, outcome.unsupported),
    )


def judgement_row(assessment: Assessment, judgement: Judgement, ids: tuple[int, int, int], sequence: int) -> Row:
    """A row of `judgement_rows`, in the order of `COPY_JUDGEMENTS`; ids of verdict, segment and choice."""
    verdict_id, segment_id, choice_id = ids
    said = judgement_columns(judgement)
    return (
        *(verdict_id, assessment.trace.event_time, assessment.judged_at, said.raw_score, said.probability),
        *(said.latency_us, said.cost_usd, said.inclusion_probability, segment_id, choice_id),
        *(said.prompt_tokens, said.completion_tokens, sequence),
        *(said.reason, said.detail, said.reasoning, said.unsupported, said.windows),
    )


def escalation_row(assessment: Assessment) -> Row:
    """A row of `escalations`, in the order of `COPY_ESCALATIONS`."""
    trace, decision = assessment.trace, assessment.decision
    return (
        *(trace.tenant, trace.trace_id, assessment.evaluator, assessment.judge_version, trace.event_time),
        storable(encode_assessment(assessment).decode()),
        *(storable(decision.reason), decision.priority),
    )


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
    """A row of `dead_letters`."""
    return (
        *position(letter.origin),
        letter.reason.value,
        storable(letter.detail),
        _optional(letter.field),
        letter.raw,
        letter.raw_bytes,
        letter.dead_at,
    )
