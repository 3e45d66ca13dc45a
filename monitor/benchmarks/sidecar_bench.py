"""What the sidecar costs the service that sends to it, and what a trace costs the sidecar."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from monitor.benchmarks.otlp_endpoints import (
    Endpoint,
    empty_endpoint,
    phoenix_endpoint,
    sidecar_endpoint,
    slow_broker,
)
from monitor.config import Settings
from monitor.embedded.broker import embedded_broker
from monitor.embedded.costs import cpu_seconds, memory_bytes
from monitor.embedded.ports import LOOPBACK, free_port
from monitor.embedded.processes import ProcessFailed

NOTHING, EMPTY = "no exporter", "empty endpoint"
UP, DOWN, SLOW = "sidecar, broker up", "sidecar, broker down", "sidecar, broker slow"
_SETTLE_SECONDS = 2.0
_DEADLINE_SECONDS = 600.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Waits:
    """What callers waited, in milliseconds; `failed` exports were not taken, `rate` is what came about."""

    target: str
    traces: int
    rate: float
    p50: float
    p95: float
    p99: float
    longest: float
    failed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What taking a flood cost an endpoint, all its processes together, until it was done with the last trace."""

    target: str
    traces: int
    seconds: float
    cpu_ms_per_trace: float
    memory_mib: float

    @property
    def traces_per_core_second(self) -> float:
        """What one core that does nothing else would sustain."""
        return 1000 / self.cpu_ms_per_trace


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One round of all measurements; `service` and `export` are the two kinds of caller."""

    service: tuple[Waits, ...]
    export: tuple[Waits, ...]
    capacity: tuple[Capacity, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        capacity = [{**asdict(one), "traces_per_core_second": one.traces_per_core_second} for one in self.capacity]
        return {**asdict(self), "capacity": capacity}


@dataclass(frozen=True, kw_only=True)
class SidecarBench:
    """One round, to be repeated: machines are noisy.

    Attributes:
        rate: traces a second, for the waits.
        seconds: of each measurement of waits.
        flood: traces for the capacity.
        phoenix: interpreter that has `arize-phoenix`; None leaves it out.
    """

    settings: Settings
    rate: float
    seconds: float
    flood: int
    phoenix: Path | None
    tell: Callable[[str], None]

    def run(self) -> Run:
        """Measure.

        Raises:
            ProcessFailed: a process did not start, ended, or was not done in ten minutes.
        """
        service = [self._waits("service", NOTHING, None)]
        export = []
        for target, opened in self._targets():
            with opened as endpoint:
                service.append(self._waits("service", target, endpoint.url))
                export.append(self._waits("export", target, endpoint.url))
        return Run(service=tuple(service), export=tuple(export), capacity=tuple(self._capacities()))

    def _targets(self) -> Iterator[tuple[str, AbstractContextManager[Endpoint]]]:
        yield EMPTY, _in_directory(empty_endpoint)
        for target in (UP, DOWN, SLOW):
            yield target, _in_directory(partial(_sidecar, self.settings, target))

    def _waits(self, mode: str, target: str, url: str | None) -> Waits:
        self.tell(f"{mode}: {target}")
        traces = int(self.rate * self.seconds)
        arguments = ["--rate", str(self.rate), "--traces", str(traces), *(["--url", url] if url else [])]
        answer = _loaded(mode, *arguments)
        waited = sorted(1000 * seconds for seconds in answer["seconds"])
        cuts = statistics.quantiles(waited, n=100, method="inclusive")
        return Waits(
            target=target,
            traces=traces,
            rate=answer["rate"],
            p50=cuts[49],
            p95=cuts[94],
            p99=cuts[98],
            longest=waited[-1],
            failed=answer["failed"],
        )

    def _capacities(self) -> Iterator[Capacity]:
        yield self._capacity(_in_directory(partial(_sidecar, self.settings, UP)))
        if self.phoenix:
            yield self._capacity(_in_directory(partial(phoenix_endpoint, self.phoenix)))

    def _capacity(self, opened: AbstractContextManager[Endpoint]) -> Capacity:
        with opened as endpoint:
            self.tell(f"flood: {endpoint.name}")
            time.sleep(_SETTLE_SECONDS)  # what starting it costs is not the flood's
            before, cpu, began = endpoint.finished(), cpu_seconds(endpoint.pid), time.monotonic()
            answer = _loaded("flood", "--url", endpoint.url, "--traces", str(self.flood))
            if answer["failed"]:
                raise ProcessFailed(f"{endpoint.name} did not take {answer['failed']} exports of the flood")
            while endpoint.finished() - before < self.flood:
                if time.monotonic() - began > _DEADLINE_SECONDS:
                    raise ProcessFailed(f"{endpoint.name} was not done with the flood in {_DEADLINE_SECONDS:.0f} s")
                time.sleep(_POLL_SECONDS)  # an endpoint of another maker tells of its end only when asked
            return Capacity(
                target=endpoint.name,
                traces=self.flood,
                seconds=time.monotonic() - began,
                cpu_ms_per_trace=1000 * (cpu_seconds(endpoint.pid) - cpu) / self.flood,
                memory_mib=memory_bytes(endpoint.pid) / 2**20,
            )


def _loaded(*arguments: str) -> dict[str, Any]:
    argv = [sys.executable, "-m", "monitor.benchmarks.otlp_load", *arguments]
    done = subprocess.run(argv, capture_output=True, timeout=_DEADLINE_SECONDS, check=False)  # noqa: S603 - argv is ours, and no shell reads it
    if done.returncode:
        raise ProcessFailed(f"the load ended with status {done.returncode}: {done.stderr.decode()[-500:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextmanager
def _in_directory(opening: Callable[[Path], AbstractContextManager[Endpoint]]) -> Iterator[Endpoint]:
    with ExitStack() as stack:
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="groundwatch-bench-", ignore_cleanup_errors=True)
        )
        yield stack.enter_context(opening(Path(directory)))


@contextmanager
def _sidecar(settings: Settings, target: str, directory: Path) -> Iterator[Endpoint]:
    with ExitStack() as stack:
        if target == DOWN:
            address = f"{LOOPBACK}:{free_port()}"
        else:
            address = stack.enter_context((slow_broker if target == SLOW else embedded_broker)(directory))
        yield stack.enter_context(sidecar_endpoint(settings, directory, bootstrap_servers=address))


def median_ratio(runs: Sequence[Run], of: Callable[[Run], float], to: Callable[[Run], float]) -> float:
    """The middle of the ratios within each run: what slows the whole machine slows both sides."""
    return statistics.median(of(run) / to(run) for run in runs)
