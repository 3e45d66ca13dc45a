"""The sidecar's metrics of what stands and waits: asked for when they are exported, so that they are never stale."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from monitor.telemetry import names

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolReading:
    """One spool, now.

    Attributes:
        spool: `traces` or `exports`.
        size_bytes: of its file, without free pages.
        records: that wait.
        oldest_seconds: age of the one that waits longest; 0 where none does.
    """

    spool: str
    size_bytes: int
    records: int
    oldest_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AssemblyReading:
    """Assembly of traces from spans, now and since the start.

    Attributes:
        open: traces that are waited for.
        waiting_bytes: of their spans.
        late_spans: that came after their trace was completed.
        became: traces by what became of them: `assembled`, `not_rag`.
        completed: traces by why they were waited for no longer.
    """

    open: int
    waiting_bytes: int
    late_spans: int
    became: Mapping[str, int]
    completed: Mapping[str, int]


class SidecarInstruments:
    """Metrics of one sidecar on one meter. Thread-safe.

    Args:
        meter: of the process.
        spools: asked at each export, on the exporter's thread.
        assembly: likewise.
    """

    def __init__(
        self, meter: Meter, *, spools: Callable[[], Iterable[SpoolReading]], assembly: Callable[[], AssemblyReading]
    ) -> None:
        self._duration = meter.create_histogram(
            names.REQUEST_DURATION,
            "s",
            "Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )

        def of_spools(name: str, unit: str, description: str, value: Callable[[SpoolReading], float]) -> None:
            def observe(_: CallbackOptions) -> Iterable[Observation]:
                return [Observation(value(one), {names.SPOOL: one.spool}) for one in spools()]

            meter.create_observable_gauge(name, [observe], unit, description)

        def of_assembly(value: Callable[[AssemblyReading], float]) -> Callable[[CallbackOptions], list[Observation]]:
            return lambda _: [Observation(value(assembly()))]

        def by(key: str, values: Callable[[AssemblyReading], Mapping[str, int]]) -> Callable[..., list[Observation]]:
            return lambda _: [Observation(count, {key: name}) for name, count in values(assembly()).items()]

        of_spools(names.SPOOL_SIZE, "By", "Bytes that the sidecar holds on disk.", lambda one: one.size_bytes)
        of_spools(names.SPOOL_RECORDS, "{record}", "Records that wait on disk.", lambda one: one.records)
        of_spools(names.SPOOL_OLDEST, "s", "Age of the record that waits longest.", lambda one: one.oldest_seconds)
        gauge, counter = meter.create_observable_gauge, meter.create_observable_counter
        gauge(names.ASSEMBLY_OPEN, [of_assembly(lambda one: one.open)], "{trace}", "Traces whose spans are waited for.")
        gauge(names.ASSEMBLY_SIZE, [of_assembly(lambda one: one.waiting_bytes)], "By", "Bytes of spans that wait.")
        late = of_assembly(lambda one: one.late_spans)
        counter(names.ASSEMBLY_LATE, [late], "{span}", "Spans that came after their trace was completed.")
        became = by(names.OUTCOME, lambda one: one.became)
        counter(names.ASSEMBLY_TRACES, [became], "{trace}", "Traces from spans by what became of them.")
        completed = by(names.REASON, lambda one: one.completed)
        counter(names.ASSEMBLY_COMPLETED, [completed], "{trace}", "Traces by why they were waited for no longer.")

    def answered(self, *, method: str, route: str | None, status: int, scheme: str, seconds: float) -> None:
        """One request was answered. The attributes are those of the semantic conventions' HTTP server metrics."""
        named = {names.HTTP_ROUTE: route} if route else {}
        self._duration.record(
            seconds, {names.HTTP_METHOD: method, names.URL_SCHEME: scheme, names.HTTP_STATUS: status, **named}
        )
