"""What became of an answer, by those who used it. A signal of its own: never a label, and in no rate."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from monitor.domain.trace import hold_utc


class Thumb(StrEnum):
    """Whether somebody liked an answer."""

    UP = "up"
    DOWN = "down"


class FeedbackSource(StrEnum):
    """Who says so: the one who asked, a person who serves them, or a program that saw what followed."""

    END_USER = "end_user"
    AGENT = "agent"
    SYSTEM = "system"


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """One word on one answer. `(tenant, feedback_id)` is its identity; `time` is when it was given.

    The answer is named by its trace id, by that of OpenTelemetry, or by both.

    Attributes:
        outcome: what followed, in the service's own words, such as `resolved` or `escalated_to_human`.
        corrected_answer: what the answer should have been.
    """

    feedback_id: str
    tenant: str
    time: datetime
    source: FeedbackSource
    trace_id: str | None = None
    otel_trace_id: str | None = None
    thumb: Thumb | None = None
    outcome: str | None = None
    corrected_answer: str | None = None
    comment: str | None = None

    def __post_init__(self) -> None:
        hold_utc(self, "time")
