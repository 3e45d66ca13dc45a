"""An alert: the drift detector's word on one segment."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from monitor.domain.confirmation import Confirmation
from monitor.domain.explanation import Explanation
from monitor.domain.trace import Segment, Slice, hold_utc


class AlertState(StrEnum):
    """Where an alert is in its life; `monitor.domain.lifecycle` says how it gets from one to the next."""

    PENDING = "pending"
    """Raised, and not told of yet."""
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Direction(StrEnum):
    """Which way the rate moved."""

    RISE = "rise"
    FALL = "fall"


class Severity(StrEnum):
    """How much the rate rose, the least first."""

    WARNING = "warning"
    CRITICAL = "critical"


class Notification(StrEnum):
    """Why a message about an alert is sent."""

    STATE = "state"
    REMINDER = "reminder"


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
    """One rise of one segment, or of a slice of it, under one judge version, with its state.

    Attributes:
        alarm: what the detector saw; `rate_after` follows a rate that rises again while the alert is open.
        raised_at: when the alarm that opened it was raised, by the drift worker's clock.
        severity: by how often the rate before goes into the rate after.
        part: the slice whose rate rose; None for that of the whole segment.
        reopened: how often it fired again soon after it was resolved.
        confirmation: None where no stronger judge is asked.
    """

    alert_id: str
    segment: Segment
    evaluator: str
    judge_version: str
    alarm: Alarm
    state: AlertState
    raised_at: datetime
    average_run_length: float
    severity: Severity = Severity.WARNING
    part: Slice | None = None
    reopened: int = 0
    explanation: Explanation = field(default_factory=Explanation)
    confirmation: Confirmation | None = None

    def __post_init__(self) -> None:
        hold_utc(self, "raised_at")

    @property
    def subject(self) -> str:
        """What it is about, for people."""
        return f"{self.segment} {self.part}" if self.part else str(self.segment)
