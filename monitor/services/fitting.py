"""Making an assessment fit its message: evidence gives way, the verdict never."""

from dataclasses import replace

from monitor.domain.errors import InvalidTrace
from monitor.domain.judgement import Judgement, Opinion, UnsupportedSpan
from monitor.domain.verdict import Assessment, Verdict
from monitor.wire import encode_assessment

KEPT_SPANS = 200
"""Unsupported spans that an oversized verdict keeps: the most unsupported ones."""

KEPT_REASONING_CHARACTERS = 10_000
"""Reasoning that an oversized verdict keeps."""


def encode_fitting(assessment: Assessment) -> bytes:
    """`judgement.v1`, with less evidence where all of it would not fit into one message.

    Each judge's own spans, reasoning and windows go first, for the verdict repeats what decided it; then the verdict
    keeps `KEPT_SPANS` spans and `KEPT_REASONING_CHARACTERS` of reasoning. That always fits, for a trace is at
    most half a message.
    """
    for shrunk in (assessment, _without_judges_evidence(assessment)):
        try:
            return encode_assessment(shrunk)
        except InvalidTrace:
            continue
    return encode_assessment(_with_the_worst_spans(_without_judges_evidence(assessment)))


def _without_judges_evidence(assessment: Assessment) -> Assessment:
    return replace(assessment, judgements=tuple(_bare(judgement) for judgement in assessment.judgements))


def _bare(judgement: Judgement) -> Judgement:
    if not isinstance(judgement.result, Opinion):
        return judgement
    return replace(judgement, result=replace(judgement.result, unsupported=(), reasoning=None, windows=()))


def _with_the_worst_spans(assessment: Assessment) -> Assessment:
    if not isinstance(assessment.outcome, Verdict):
        return assessment
    reasoning = assessment.outcome.reasoning
    shrunk = replace(
        assessment.outcome,
        unsupported=_worst(assessment.outcome.unsupported),
        reasoning=reasoning[:KEPT_REASONING_CHARACTERS] if reasoning else reasoning,
    )
    return replace(assessment, outcome=shrunk)


def _worst(spans: tuple[UnsupportedSpan, ...]) -> tuple[UnsupportedSpan, ...]:
    kept = sorted(spans, key=lambda span: -span.score)[:KEPT_SPANS]
    return tuple(sorted(kept, key=lambda span: span.start))
