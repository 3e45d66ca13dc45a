"""An alert: the drift detector's word on one segment."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from monitor.domain.confirmation import Confirmation
from monitor.domain.explanation import Explanation
from monitor.domain.trace import Segment, hold_utc


class AlertState(StrEnum):
    """The life cycle's states, first form."""

    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Direction(StrEnum):
    """Which way the rate moved."""

    RISE = "rise"
    FALL = "fall"


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """What a detector raises, before it becomes an alert.

    Attributes:
        event_time: event time of the verdict (or bucket) that raised it.
        change_at: estimated event time of the change.
        change_earliest, change_latest: its interval, about 95 %; None for alarms of releases that gave none.
        evidence: natural logarithm of the e-detector's value; an alarm means evidence >= log(ARL).
        rate_before: the baseline rate, as learned.
        rate_after: the rate since the estimated change.
        verdicts_seen: verdicts folded in since the detector was (re)started.
        delay_verdicts: verdicts between the estimated change and the alarm.
        recovers: whether this ends the rise that was raised before, the rate being back where it had been.
    """

    event_time: datetime
    change_at: datetime
    change_earliest: datetime | None = None
    change_latest: datetime | None = None
    direction: Direction
    evidence: float
    rate_before: float
    rate_after: float
    verdicts_seen: int
    delay_verdicts: int
    recovers: bool = False

    def __post_init__(self) -> None:
        hold_utc(self, "event_time", "change_at", "change_earliest", "change_latest")


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """One alarm on one segment under one judge version, with its state.

    `confirmation` is None where no stronger judge is asked.
    """

    alert_id: str
    segment: Segment
    evaluator: str
    judge_version: str
    alarm: Alarm
    state: AlertState
    raised_at: datetime
    average_run_length: float
    explanation: Explanation = field(default_factory=Explanation)
    confirmation: Confirmation | None = None

    def __post_init__(self) -> None:
        hold_utc(self, "raised_at")
