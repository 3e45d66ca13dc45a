"""What the sidecar counts and holds, told to telemetry."""

from collections.abc import Mapping
from datetime import datetime

from monitor.ingest.assembler import AssemblyState
from monitor.ingest.counters import Denial, Drop, Refusal
from monitor.ingest.spool_records import SpoolState
from monitor.ingest.tee_counters import TeeDrop
from monitor.telemetry.instruments import Instruments
from monitor.telemetry.sidecar import AssemblyReading, SpoolReading


class IntakeTelemetry:
    """Hands the sidecar's counts on to metrics."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments

    def accepted(self, count: int) -> None:
        """So many traces are on disk and acknowledged."""
        self._instruments.intake("accepted", count)

    def refused(self, reason: Refusal, *, field: str | None = None) -> None:  # noqa: ARG002 - `/v1/status` tells fields
        """One trace, or one whole request, was refused."""
        self._instruments.intake("refused", reason=reason.value)

    def denied(self, cause: Denial) -> None:
        """One caller was not let in."""
        self._instruments.denied(cause.value)

    def forwarded(self, count: int) -> None:
        """Kafka has confirmed so many records."""
        self._instruments.intake("forwarded", count)

    def set_aside(self, count: int) -> None:
        """So many records cannot be sent, and are kept on disk."""
        self._instruments.intake("set_aside", count)

    def retried(self) -> None:
        """Kafka failed; the forwarder waits and starts over."""
        self._instruments.intake_retried()

    def dropped(self, reason: Drop, count: int) -> None:
        """So much is given up by policy."""
        self._instruments.intake("dropped", count, reason=reason.value)

    def redacted(self, rule: str, count: int) -> None:
        """A redaction rule has found something so often."""
        self._instruments.redacted(rule, count)


class FeedbackTelemetry:
    """Hands the sidecar's counts of feedback on to metrics."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments

    def accepted(self, count: int) -> None:
        """So much feedback is on disk and acknowledged."""
        self._instruments.feedback("accepted", count)

    def refused(self, reason: Refusal, *, field: str | None = None) -> None:  # noqa: ARG002 - `/v1/status` tells fields
        """One feedback, or one whole request, was refused."""
        self._instruments.feedback("refused", reason=reason.value)

    def denied(self, cause: Denial) -> None:
        """One caller was not let in."""
        self._instruments.denied(cause.value)

    def forwarded(self, count: int) -> None:
        """Kafka has confirmed so many records."""
        self._instruments.feedback("forwarded", count)

    def set_aside(self, count: int) -> None:
        """So many records cannot be sent, and are kept on disk."""
        self._instruments.feedback("set_aside", count)

    def retried(self) -> None:
        """Kafka failed; the forwarder waits and starts over."""
        self._instruments.intake_retried()

    def dropped(self, reason: Drop, count: int) -> None:
        """So much is given up by policy."""
        self._instruments.feedback("dropped", count, reason=reason.value)

    def redacted(self, rule: str, count: int) -> None:
        """A redaction rule has found something so often."""
        self._instruments.redacted(rule, count)


class TeeTelemetry:
    """Hands the tee's counts on to metrics."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments

    def passed_on(self) -> None:
        """The endpoint has taken one export."""
        self._instruments.tee("forwarded")

    def retried(self) -> None:
        """The endpoint failed; the same export is sent again later."""
        self._instruments.tee("retried")

    def dropped(self, reason: TeeDrop, count: int) -> None:
        """So many exports will not be passed on."""
        self._instruments.tee("dropped", count, reason=reason.value)

    def waiting(self, size_bytes: int) -> None:
        """So much waits now."""
        self._instruments.tee_waiting(size_bytes)


def spool_readings(spools: Mapping[str, SpoolState], *, now: datetime) -> list[SpoolReading]:
    """How spools stand, by their names."""
    return [_spool_reading(name, state, now) for name, state in spools.items()]


def _spool_reading(name: str, state: SpoolState, now: datetime) -> SpoolReading:
    # A wall clock may have been set back meanwhile; nothing has waited for less than no time.
    waited = max(0.0, (now - state.oldest).total_seconds()) if state.oldest else 0.0
    return SpoolReading(spool=name, size_bytes=state.bytes, records=state.records, oldest_seconds=waited)


def assembly_reading(state: AssemblyState) -> AssemblyReading:
    """How assembly stands."""
    return AssemblyReading(
        open=state.open,
        waiting_bytes=state.waiting_bytes,
        late_spans=state.late_spans,
        became={"assembled": state.assembled, "not_rag": state.not_rag},
        completed=state.completed,
    )
