"""`feedback.v1` as it travels: what people and programs say of answers. `schemas/feedback.v1.json` says the same."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.errors import InvalidFeedback
from monitor.domain.feedback import Feedback, FeedbackSource, Thumb
from monitor.wire.coding import check_clock, first_problem, to_bytes
from monitor.wire.fields import Contract, Identifier, Moment, Name, OtelTraceId, Text

MAX_FEEDBACK_BYTES = 1024 * 1024
"""One feedback, as JSON: both of its texts at their longest fit."""

_FEEDBACK = TypeAdapter(Feedback)


class FeedbackV1(Contract):
    """`feedback.v1`: what becomes of an answer, with every limit stated."""

    schema_: Literal["feedback.v1"] = Field(default="feedback.v1", alias="schema")
    feedback_id: Identifier
    tenant: Name = "default"
    time: Moment
    trace_id: Identifier | None = None
    otel_trace_id: OtelTraceId | None = None
    thumb: Annotated[Thumb, Field(strict=False)] | None = None
    outcome: Name | None = None
    corrected_answer: Text | None = None
    comment: Text | None = None
    source: Annotated[FeedbackSource, Field(strict=False)] = FeedbackSource.END_USER

    @model_validator(mode="after")
    def _says_something_of_an_answer(self) -> Self:
        if self.trace_id is None and self.otel_trace_id is None:
            raise ValueError("say which answer: trace_id or otel_trace_id")
        if not any((self.thumb, self.outcome, self.corrected_answer, self.comment)):
            raise ValueError("say at least one of thumb, outcome, corrected_answer, comment")
        return self

    def to_domain(self) -> Feedback:
        """The same feedback, as the core knows it."""
        return Feedback(**{name: getattr(self, name) for name in FeedbackV1.model_fields if name != "schema_"})


def decode_feedback(raw: bytes, *, now: datetime) -> Feedback:
    """Read one `feedback.v1`.

    Args:
        raw: UTF-8 JSON, at most `MAX_FEEDBACK_BYTES`.
        now: the reader's clock, aware; it bounds `time`.

    Raises:
        InvalidFeedback: names the first offending field and what is allowed there; `$` where the whole is to blame.
    """
    if len(raw) > MAX_FEEDBACK_BYTES:
        problem = f"{len(raw)} bytes; at most {MAX_FEEDBACK_BYTES} are allowed"
        raise InvalidFeedback("$", problem, DeadLetterReason.TOO_LARGE)
    try:
        message = FeedbackV1.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidFeedback(*first_problem(error)) from None
    check_clock("time", message.time, now, InvalidFeedback)
    return message.to_domain()


def encode_feedback(feedback: Feedback) -> bytes:
    """`feedback.v1` as UTF-8 JSON."""
    return to_bytes({"schema": "feedback.v1", **_FEEDBACK.dump_python(feedback, mode="json")})
