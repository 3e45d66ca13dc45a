"""Metrics of checks: answers that are judged while somebody waits."""

from opentelemetry.metrics import Meter

from monitor.telemetry import names

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WITH_LABEL = ("verdict", "incomplete")


class CheckInstruments:
    """On one meter. Thread-safe."""

    def __init__(self, meter: Meter) -> None:
        self._checks = meter.create_counter(names.CHECKS, "{check}", "Checks by what became of them.")
        self._duration = meter.create_histogram(
            names.CHECK_DURATION, "s", "Time from a check to its answer.", explicit_bucket_boundaries_advisory=_SECONDS
        )

    def answered(self, *, outcome: str, detail: str | None, seconds: float) -> None:
        """One check: `verdict` or `incomplete` with the label, the others with the reason, where there is one."""
        key = names.LABEL if outcome in _WITH_LABEL else names.REASON
        self._checks.add(1, {names.OUTCOME: outcome, **({key: detail} if detail else {})})
        self._duration.record(seconds, {names.OUTCOME: outcome})
