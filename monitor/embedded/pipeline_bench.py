"""Measure the pipeline on the laptop stack: throughput, and what each process costs."""

import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from monitor.embedded.costs import cpu_seconds, memory_bytes
from monitor.embedded.processes import ProcessFailed
from monitor.embedded.replay import Replay
from monitor.embedded.sample import load_sample
from monitor.embedded.stack import Stack
from monitor.storage.accounting import read_accounting
from monitor.storage.engine import create_ledger_engine, snapshot
from monitor.wire import encode_trace

_DEADLINE_SECONDS = 600.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessCost:
    """What one process, its children included, spent: CPU milliseconds a trace, resident MiB at the end."""

    name: str
    cpu_ms_per_trace: float
    memory_mib: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineFigures:
    """One run: `traces_per_second` counts from the first request to the last committed verdict."""

    traces: int
    seconds: float
    traces_per_second: float
    accepted_per_second: float
    mean_bytes: float
    processes: tuple[ProcessCost, ...]


def measure_pipeline(stack: Stack, *, traces: int, run: int) -> PipelineFigures:
    """Send `traces` as fast as the sidecar takes them and wait until each has its outcome in the ledger.

    Args:
        stack: what runs, idle.
        traces: how many; the sample is repeated under new ids.
        run: makes this run's ids its own.

    Raises:
        ProcessFailed: a process ended, or ten minutes were not enough.
    """
    sample = [labelled.trace for labelled in load_sample(until=datetime.now(UTC)).traces]
    load = [replace(sample[n % len(sample)], trace_id=f"bench-{run}-{n}") for n in range(traces)]
    engine = create_ledger_engine(stack.settings.postgres, application_name="groundwatch-bench")

    def ended() -> int:
        with snapshot(engine) as connection:
            counted = read_accounting(connection)
        return counted.verdicts + counted.unjudged + counted.dead_letters + counted.duplicates

    pids = {name: child.pid for name, child in stack.children.items()} | {"postgres": stack.postgres.pid or 0}
    already, before = ended(), {name: cpu_seconds(pid) for name, pid in pids.items()}
    sender = Replay(stack.sidecar_url, load, rate=None)
    began = time.monotonic()
    sender.run(threading.Event())
    sender.raise_failure()
    accepted_seconds = time.monotonic() - began
    while ended() < already + traces:
        stack.check()
        if time.monotonic() - began > _DEADLINE_SECONDS:
            raise ProcessFailed(f"{already + traces - ended()} traces had no outcome after {_DEADLINE_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
    seconds = time.monotonic() - began
    return PipelineFigures(
        traces=traces,
        seconds=round(seconds, 2),
        traces_per_second=round(traces / seconds, 1),
        accepted_per_second=round(traces / accepted_seconds, 1),
        mean_bytes=round(sum(len(encode_trace(trace)) for trace in sample) / len(sample), 1),
        processes=tuple(
            ProcessCost(
                name=name,
                cpu_ms_per_trace=round(1000 * (cpu_seconds(pid) - before[name]) / traces, 3),
                memory_mib=round(memory_bytes(pid) / 2**20, 1),
            )
            for name, pid in pids.items()
        ),
    )
