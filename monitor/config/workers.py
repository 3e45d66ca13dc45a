"""Settings of the workers, of alerts and of telemetry."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

from monitor.config.section import HttpUrl, Seconds, Section, Share
from monitor.drift.seasons import Seasons


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("each dimension should be named once")
    return names


Dimension = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Dimensions = Annotated[tuple[Dimension, ...], Field(max_length=8), AfterValidator(_each_once)]


class JudgeSettings(Section):
    """The judge worker."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Records worked on together; offsets are committed when the whole batch is durable."""
    batch_seconds: Seconds = 0.2
    """How long to wait for a batch to fill."""
    dead_letter_share_limit: Share = 0.5
    """A larger share of dead letters among recent records stops the worker instead of draining the topic."""
    dead_letter_window: Annotated[int, Field(ge=10)] = 200
    """How many recent records that share is taken over."""


class LedgerSettings(Section):
    """The ledger worker."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 2000
    """Judgements in one transaction."""
    batch_seconds: Seconds = 0.2
    """How long to wait for a batch to fill."""


class DriftSettings(Section):
    """The drift detector; see docs/decisions for the guarantees."""

    average_run_length: Annotated[float, Field(ge=100)] = 20_000
    """Verdicts of the average segment between false alarms anywhere, at least, on average: live segments share it."""
    baseline_verdicts: Annotated[int, Field(ge=50)] = 2000
    """Verdicts of a segment from which its baseline rate is learned before it is watched."""
    seasons: Seasons = Seasons.NONE
    """Compare each hour of the day (UTC), weekends apart if `weekly`, with its like; a baseline then spans a period."""
    dimensions: Dimensions = ("generator_model", "prompt_version")
    """Marks of a trace by which a rise is explained: these two, or names of tags; values are cut at 200 characters."""
    watched_slices: Annotated[int, Field(ge=0, le=200)] = 20
    """Slices of a segment, by dimension and value, that are watched by themselves, the first ones; 0 watches none."""
    confirm_with: Annotated[int, Field(ge=0, le=1000)] = 60
    """Flagged answers from before a rise, and as many from after it, that the pool is asked to confirm; 0 asks none."""
    confirm_within_seconds: Seconds = 3600.0
    """After so long the pool is waited for no longer: the conclusion is drawn from what it has said."""
    critical_ratio: Annotated[float, Field(gt=1)] = 2.0
    """An alert is critical from so many times the rate before on, else a warning."""
    allowed_lateness_seconds: Annotated[float, Field(ge=0)] = 60.0
    """A minute is folded in once the segment's newest event time is this much past its end."""
    backlog_patience_seconds: Seconds = 900.0
    """While a partition has traces to judge, minutes stay open, unless its event time stands still so long."""
    poll_seconds: Seconds = 5.0
    """How often the drift worker looks."""


class RateSettings(Section):
    """The hallucination rates that are told as metrics; docs/rates.md says what each is."""

    window_seconds: Seconds = 86_400.0
    """Event time that the rates, coverage and escalation share are taken over, until now."""
    every_seconds: Seconds = 300.0
    """How often the drift worker takes them."""
    skill_days: Annotated[float, Field(gt=0)] = 30.0
    """The local judges' errors are taken from the pool's word of so many days."""


class AlertSettings(Section):
    """The life cycle of alerts, and their delivery."""

    allow_private_targets: bool = False
    """Let webhooks point at loopback, link-local and private addresses. Only for tests and closed networks."""
    encryption_keys: tuple[SecretStr, ...] = ()
    """Seal webhooks' URLs and secrets in the ledger: the first seals, all open. `groundwatch alerts key` makes one."""
    deadline_seconds: Seconds = 10.0
    """One delivery attempt."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 12
    """Attempts before a delivery is given up and listed as dead."""
    poll_seconds: Seconds = 1.0
    """How often the outbox is read."""
    pending_seconds: Annotated[float, Field(ge=0)] = 0.0
    """How long an alert waits before it fires; one whose rate comes back meanwhile is never sent."""
    flap_window_seconds: Seconds = 3600.0
    """An alarm so soon (event time) after its segment's alert was resolved reopens it; as long a calm ends flapping."""
    flap_reopenings: Annotated[int, Field(ge=0)] = 2
    """How often an alert may be reopened before it counts as flapping."""
    renotify_seconds: Annotated[float, Field(ge=0)] = 14_400.0
    """How often an alert that fires is sent again until someone acknowledges it; 0 is never."""
    tend_seconds: Seconds = 15.0
    """How often the alert worker looks what has fallen due: firing, reminders, ended silences."""


class TelemetrySettings(Section):
    """groundwatch's own OpenTelemetry."""

    otlp_endpoint: HttpUrl | None = None
    """OTLP/HTTP base URL such as `http://collector:4318`; nothing is exported when absent."""
    export_interval_seconds: Seconds = 10.0
    """How often metrics are exported."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe log line that is printed."""
