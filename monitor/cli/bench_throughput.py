"""`groundwatch bench judge --throughput`: how much of the machine verdict-first judging gets, in ratios."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console

from monitor.benchmarks.scores import as_trace
from monitor.cli.bench_pipeline import machine
from monitor.cli.console import plain_table, wide_console
from monitor.config import Settings
from monitor.domain.errors import InvalidInput
from monitor.inference.loading import gguf_plan
from monitor.judging.prompts import prompt_family
from monitor.training.rows import Row

TRACES = 6
"""Traces in a repetition: enough to even out, few enough for a small machine."""

_NEEDED = "--throughput measures one GGUF model: name it with --gguf, or in gguf.path"


def bench_throughput(
    rows: Sequence[Row], settings: Settings, gguf: Sequence[Path], *, repetitions: int, as_json: bool
) -> None:
    """Measure one GGUF model on the first rows and print the figures.

    Raises:
        InvalidInput: not exactly one model, or too few rows.
        JudgeUnavailable: the model cannot judge, or llama.cpp is not installed.
    """
    path = gguf[0] if gguf else settings.gguf.path
    if path is None or len(gguf) > 1:
        raise InvalidInput(_NEEDED)
    plan = gguf_plan(settings)
    # Loaded here: llama.cpp is an extra.
    from monitor.inference.gguf.throughput import Measurement, Throughput  # noqa: PLC0415 - llama.cpp is an extra

    console = Console(stderr=True)
    measured: Throughput = Measurement(
        path=path, prompt=prompt_family(settings.gguf.prompt), plan=plan, repetitions=repetitions
    ).run([as_trace(row) for row in rows[:TRACES]], lambda doing: console.print(f"  {doing} …", style="dim"))
    if as_json:
        typer.echo(json.dumps({"machine": machine(), **measured.to_json()}, indent=2))
        return
    out = wide_console()
    out.print(
        f"{measured.model}, prompt family {measured.prompt}: {measured.traces} traces of "
        f"{measured.nominal_tokens / measured.traces:.0f} tokens, {measured.shared_share:.0%} of them shared by all",
        highlight=False,
    )
    table = plain_table(
        ["repetition"], ["raw tokens/s", "verdicts: computed tokens/s over raw", "nominal tokens/s over raw"]
    )
    lines = zip(measured.raw_rates, measured.computed_ratios, measured.nominal_ratios, strict=True)
    for number, (raw, computed, nominal) in enumerate(lines, start=1):
        table.add_row(str(number), f"{raw:.0f}", f"{computed:.3f}", f"{nominal:.3f}")
    middle = (statistics.median(each) for each in (measured.computed_ratios, measured.nominal_ratios))
    table.add_row("median", f"{statistics.median(measured.raw_rates):.0f}", *(f"{one:.3f}" for one in middle))
    out.print(table)
    for one in measured.completions:
        out.print(
            f"a chat completion with {one.reasoning_tokens} tokens of JSON takes {one.seconds:.2f} s: "
            f"[bold]{one.ratio:.1f} times[/bold] a verdict",
            highlight=False,
        )
