"""`groundwatch bench sidecar`: what callers wait for, and what a trace costs, beside an empty endpoint and Phoenix."""

import importlib.util
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from monitor.benchmarks.sidecar_bench import EMPTY, NOTHING, Run, SidecarBench, Waits, median_ratio
from monitor.cli.bench_pipeline import machine
from monitor.cli.console import plain_table, wide_console
from monitor.config import load_settings
from monitor.domain.errors import InvalidInput

_OURS, _THEIRS = "sidecar", "Phoenix"
_TITLES = {
    "service": "What tracing takes of a request's own thread, ms a trace (the SDK exports beside it, its default)",
    "export": "What a caller waits for that sends each trace itself, ms a trace (OTLP over HTTP, protobuf)",
}


def register(bench: typer.Typer) -> None:
    """Add `bench sidecar`."""
    bench.command(name="sidecar")(bench_sidecar)


def bench_sidecar(
    *,
    rate: Annotated[float, typer.Option(min=1, help="Traces a second, for the waits.")] = 500.0,
    seconds: Annotated[float, typer.Option(min=2, help="Length of each measurement of waits.")] = 10.0,
    flood: Annotated[int, typer.Option(min=80, help="Traces for the cost of each.")] = 4000,
    runs: Annotated[int, typer.Option(min=1, help="Times to measure all; machines are noisy.")] = 3,
    phoenix: Annotated[
        Path | None,
        typer.Option(help="Python interpreter that has arize-phoenix; this one's own, where it has it (extra bench)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Measure what the sidecar costs the service that sends to it, with Kafka up, down and slow.

    The load is OpenTelemetry's own SDK and OTLP exporter, in a process of its own; callers that wait send exports that
    the SDK encoded beforehand. The same load against an empty endpoint says what sending costs in any case. The flood
    shows the CPU time that a trace costs until Kafka has it, beside Arize Phoenix until it is in Phoenix's database.
    All of it shares this machine: compare within a run.
    """
    console = Console(stderr=True)
    bench = SidecarBench(
        settings=load_settings(),
        rate=rate,
        seconds=seconds,
        flood=flood,
        phoenix=_phoenix(phoenix),
        tell=lambda doing: console.print(f"  {doing} …", style="dim"),
    )
    if bench.phoenix is None:
        console.print("Phoenix is left out: install the extra bench, or name an interpreter with --phoenix")
    measured = []
    for number in range(1, runs + 1):
        console.print(f"run {number} of {runs}", style="dim")
        measured.append(bench.run())
    if as_json:
        typer.echo(json.dumps({"machine": machine(), "runs": [run.to_json() for run in measured]}, indent=2))
        return
    _print(measured)


def _phoenix(named: Path | None) -> Path | None:
    if named is not None:
        if not named.is_file():
            raise InvalidInput(f"--phoenix {named}: no such file; name a Python interpreter")
        return named
    return Path(sys.executable) if importlib.util.find_spec("phoenix") else None


def _print(runs: Sequence[Run]) -> None:
    out = wide_console()
    facts = machine()
    out.print(f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gib']} GiB, Python {facts['python']}")
    _print_waits(runs, "service", lambda run: run.service, beside=NOTHING)
    _print_waits(runs, "export", lambda run: run.export, beside=EMPTY)
    _print_capacity(runs)


def _print_waits(runs: Sequence[Run], mode: str, waits: Callable[[Run], Sequence[Waits]], *, beside: str) -> None:
    out = wide_console()
    out.print(f"\n[bold]{_TITLES[mode]}[/bold]")
    out.print(f"middle of {len(runs)} runs; in brackets the smallest and the largest", style="dim")
    table = plain_table(
        ["to"], ["p50", "p95", "p99", "p99 added", f"p99 beside {beside}", "longest", "traces/s", "not taken"]
    )
    for place, first in enumerate(waits(runs[0])):
        seen = [waits(run)[place] for run in runs]
        table.add_row(
            first.target,
            f"{statistics.median(one.p50 for one in seen):.2f}",
            f"{statistics.median(one.p95 for one in seen):.2f}",
            _spread([one.p99 for one in seen]),
            _added(runs, waits, place),
            _beside(runs, waits, place),
            f"{max(one.longest for one in seen):.0f}",
            f"{statistics.median(one.rate for one in seen):.0f}",
            str(sum(one.failed for one in seen)),
        )
    out.print(table)


def _added(runs: Sequence[Run], waits: Callable[[Run], Sequence[Waits]], place: int) -> str:
    """What is above the first line, within each run."""
    return f"{statistics.median(waits(run)[place].p99 - waits(run)[0].p99 for run in runs):.2f}"


def _beside(runs: Sequence[Run], waits: Callable[[Run], Sequence[Waits]], place: int) -> str:
    ratio = median_ratio(runs, lambda run: waits(run)[place].p99, lambda run: waits(run)[0].p99)
    return f"{ratio:.2f} times"


def _print_capacity(runs: Sequence[Run]) -> None:
    out = wide_console()
    out.print("\n[bold]What a trace costs, in exports of 80 traces[/bold]")
    table = plain_table(["endpoint"], ["traces a core and second", "CPU ms a trace", "memory MiB", "traces/s here"])
    for place, first in enumerate(runs[0].capacity):
        seen = [run.capacity[place] for run in runs]
        table.add_row(
            first.target,
            _spread([one.traces_per_core_second for one in seen], digits=0),
            f"{statistics.median(one.cpu_ms_per_trace for one in seen):.2f}",
            f"{statistics.median(one.memory_mib for one in seen):.0f}",
            f"{statistics.median(one.traces / one.seconds for one in seen):.0f}",
        )
    out.print(table)
    if len(runs[0].capacity) > 1:
        ratio = median_ratio(
            runs, lambda run: run.capacity[0].traces_per_core_second, lambda run: run.capacity[1].traces_per_core_second
        )
        out.print(f"{_OURS}: [bold]{ratio:.1f} times[/bold] {_THEIRS}'s traces a core and second", highlight=False)


def _spread(values: Sequence[float], *, digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
