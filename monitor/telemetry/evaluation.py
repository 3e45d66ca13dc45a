"""Events: the verdict beside the span that it judges, and an alert's transitions."""

from datetime import datetime

from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from monitor.domain.alert import Alert, AlertState, Severity
from monitor.domain.judgement import CouldNotJudge
from monitor.domain.trace import Segment, Trace
from monitor.domain.verdict import Action, Assessment, Label, Verdict
from monitor.telemetry import names

MAX_EXPLANATION = 2000
"""Characters of a judge's reasoning that an event carries."""

_NANOSECONDS = 1_000_000_000
_MICROSECONDS = 1_000_000

_CALM = (SeverityNumber.INFO, "INFO")
_FIRING = {
    Severity.WARNING: (SeverityNumber.WARN, "WARN"),
    Severity.CRITICAL: (SeverityNumber.ERROR, "ERROR"),
}


class EvaluationEvents:
    """`gen_ai.evaluation.result`, one for each verdict, with the judged span as its parent."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def emit(self, assessment: Assessment) -> bool:
        """Say what became of one trace; False when there is nothing to say yet (an escalated trace).

        Call it once the verdict is durable. Delivery is at least once, like everything else here: a batch that is
        redelivered after a crash says it again, and a pool's revision of a verdict is a second, later event.
        """
        outcome = assessment.outcome
        attributes = _subject(assessment)
        if isinstance(outcome, CouldNotJudge):
            if assessment.decision.action is Action.ESCALATE:
                return False
            attributes[names.ERROR_TYPE] = outcome.reason.value
            if outcome.detail:
                attributes[names.EVALUATION_EXPLANATION] = outcome.detail[:MAX_EXPLANATION]
        else:
            # The evaluator is called faithfulness, so its score says how likely the answer is faithful.
            attributes[names.EVALUATION_SCORE_VALUE] = 1 - outcome.probability
            attributes[names.EVALUATION_SCORE_LABEL] = outcome.label.value
            if explanation := _explanation(outcome):
                attributes[names.EVALUATION_EXPLANATION] = explanation
        self._logger.emit(
            event_name=names.EVALUATION_RESULT,
            timestamp=_nanoseconds(assessment.judged_at),
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            attributes=attributes,
            context=_judged_span(assessment.trace),
        )
        return True


class AlertEvents:
    """`groundwatch.alert.transition`: an alert was raised, fired, was acknowledged or resolved."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def emit(self, alert: Alert, *, at: datetime) -> None:
        """Say that `alert` came into its state at `at`; a firing alert has the severity ERROR or WARN, others INFO."""
        number, text = _FIRING[alert.severity] if alert.state is AlertState.FIRING else _CALM
        alarm = alert.alarm
        self._logger.emit(
            event_name=names.ALERT_TRANSITION,
            timestamp=_nanoseconds(at),
            severity_number=number,
            severity_text=text,
            body=f"hallucination rate of {alert.subject}: {alarm.rate_before:.1%} before, {alarm.rate_after:.1%} since "
            f"{alarm.change_at.isoformat()}",
            attributes={
                **_segment(alert.segment),
                names.ALERT_ID: alert.alert_id,
                names.ALERT_STATE: alert.state.value,
                names.ALERT_SEVERITY: alert.severity.value,
                names.ALERT_REOPENED: alert.reopened,
                names.EVALUATOR: alert.evaluator,
                names.JUDGE_VERSION: alert.judge_version,
                **({names.ALERT_SLICE: str(alert.part)} if alert.part else {}),
                names.DIRECTION: alarm.direction.value,
                names.RATE_BEFORE: alarm.rate_before,
                names.RATE_AFTER: alarm.rate_after,
                names.CHANGE_AT: alarm.change_at.isoformat(),
                names.DELAY_VERDICTS: alarm.delay_verdicts,
                names.EVIDENCE: alarm.evidence,
                names.AVERAGE_RUN_LENGTH: alert.average_run_length,
            },
            context=_NO_SPAN,
        )


# An explicit context: an empty one is falsy, and then the SDK would take whatever span is current.
_NO_SPAN = set_span_in_context(INVALID_SPAN, Context())


def _judged_span(trace: Trace) -> Context:
    if trace.otel_trace_id is None or trace.otel_span_id is None:
        return _NO_SPAN
    span = SpanContext(
        trace_id=int(trace.otel_trace_id, 16),
        span_id=int(trace.otel_span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    # Ids of zeros are well-formed and mean "none": the conventions call such a context invalid.
    return set_span_in_context(NonRecordingSpan(span), Context()) if span.is_valid else _NO_SPAN


def _subject(assessment: Assessment) -> dict[str, str | float]:
    return {
        names.EVALUATION_NAME: assessment.evaluator,
        names.JUDGE_VERSION: assessment.judge_version,
        names.TRACE_ID: assessment.trace.trace_id,
        **_segment(assessment.trace.segment),
    }


def _segment(segment: Segment) -> dict[str, str | float]:
    return {
        names.TENANT: segment.tenant,
        names.SERVICE: segment.service,
        names.ENVIRONMENT: segment.environment,
    }


def _explanation(verdict: Verdict) -> str | None:
    if verdict.reasoning:
        return verdict.reasoning[:MAX_EXPLANATION]
    if verdict.label is Label.HALLUCINATED and verdict.unsupported:
        count = len(verdict.unsupported)
        return f"{count} span{'' if count == 1 else 's'} of the answer without support in the documents"
    return None


def _nanoseconds(moment: datetime) -> int:
    # Whole numbers: a float of nanoseconds since 1970 is right to a quarter of a microsecond only.
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * _NANOSECONDS + moment.microsecond * (_NANOSECONDS // _MICROSECONDS)
