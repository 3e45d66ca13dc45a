"""Assessments made to measure: the smallest that the ledger takes, each of its parts open to change."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from monitor.domain.dead_letter import DeadLetter, DeadLetterReason
from monitor.domain.judgement import (
    CouldNotJudge,
    JudgeIdentity,
    Judgement,
    Opinion,
    Passage,
    Tier,
    Unjudgeable,
    UnsupportedSpan,
    Usage,
    Window,
)
from monitor.domain.trace import Document, Origin, Trace
from monitor.domain.verdict import FAITHFULNESS, Action, Assessment, Decision, Label, Verdict

TOPIC = "rag.traces.v1"
VERSION = "cascade@000000000001"
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SCREEN = JudgeIdentity(name="screen", tier=Tier.SCREEN, model="screen.onnx", model_digest="aa", quantisation=None)
EDGE = JudgeIdentity(
    name="gguf", tier=Tier.EDGE, model="edge.gguf", model_digest="bb", quantisation="Q4_1", prompt_digest="cc"
)
POOL = JudgeIdentity(name="pool", tier=Tier.POOL, model="lynx-70b", model_digest="dd", prompt_digest="ee")
WINDOWS = (
    Window(passages=(Passage(document_id="d", start=0, end=11),), raw_score=0.5),
    Window(passages=(Passage(document_id="d", start=4, end=26),)),
)
SPAN = UnsupportedSpan(start=0, end=5, score=0.75, document_id="d", document_start=1, document_end=4)


def origin(offset: int, *, partition: int = 0, end: int | None = None) -> Origin:
    """A place in the traces topic; `end` is the partition's end as the judge worker saw it."""
    return Origin(topic=TOPIC, partition=partition, offset=offset, high_watermark=end)


def trace(trace_id: str, **changes: Any) -> Trace:
    """A trace of city/help-desk/production at noon."""
    smallest = Trace(
        trace_id=trace_id,
        event_time=NOON,
        tenant="city",
        service="help-desk",
        environment="production",
        question="When does the library open?",
        documents=(Document(id="d", text="The library opens at nine.", score=0.5, metadata={"page": 1}),),
        answer="At ten, on the moon.",
        tags={"release": "7"},
    )
    return replace(smallest, **changes)


def judgement(judge: JudgeIdentity = SCREEN, *, probability: float | None = 0.25, seconds: float = 0.002) -> Judgement:
    """One judge's word; None could not be parsed."""
    failed = CouldNotJudge(reason=Unjudgeable.UNPARSEABLE, detail="no verdict in it")
    opinion = Opinion(
        raw_score=0.5,
        unsupported=(SPAN,),
        reasoning="The moon has no library.",
        usage=Usage(prompt_tokens=7),
        windows=WINDOWS,
    )
    return Judgement(
        judge=judge,
        result=failed if probability is None else opinion,
        probability=probability,
        latency_seconds=seconds,
        inclusion_probability=1.0,
        chosen_because="all",
    )


def verdict(probability: float, *, by: JudgeIdentity = SCREEN) -> Verdict:
    """Hallucinated from one half on."""
    return Verdict(
        label=Label.HALLUCINATED if probability >= 0.5 else Label.FAITHFUL,
        probability=probability,
        reasoning="The moon has no library.",
        unsupported=(SPAN,),
        decided_by=(by.version,),
    )


def assessment(
    offset: int,
    *,
    trace_id: str | None = None,
    probability: float | None = 0.25,
    escalated: bool = False,
    partition: int = 0,
    end: int | None = None,
    seconds_past_noon: float = 0.0,
    priority: int = 100,
    judge_version: str = VERSION,
    chance: float = 0.02,
    **changes: Any,
) -> Assessment:
    """What the judge worker says about the record at `offset`; a probability of None could not be judged.

    `chance` is that of being sent to the pool.
    """
    event_time = NOON + timedelta(seconds=seconds_past_noon)
    return Assessment(
        trace=trace(trace_id or f"t-{partition}-{offset}", event_time=event_time, **changes),
        origin=origin(offset, partition=partition, end=end),
        evaluator=FAITHFULNESS,
        judge_version=judge_version,
        judgements=(judgement(probability=probability), judgement(EDGE, probability=None, seconds=0.5)),
        outcome=CouldNotJudge(reason=Unjudgeable.UNPARSEABLE) if probability is None else verdict(probability),
        decision=Decision(
            action=Action.ESCALATE if escalated else Action.ACCEPT,
            reason="audit" if escalated else "sure",
            inclusion_probability=chance,
            priority=priority,
        ),
        judged_at=event_time + timedelta(seconds=1),
    )


def dead_letter(offset: int, *, partition: int = 0, end: int | None = None) -> DeadLetter:
    """A record that was no JSON."""
    return DeadLetter(
        origin=origin(offset, partition=partition, end=end),
        reason=DeadLetterReason.NOT_JSON,
        detail="not JSON: expected value at line 1 column 1",
        field=None,
        raw=b"\x00\xff",
        raw_bytes=2,
        dead_at=NOON,
    )
