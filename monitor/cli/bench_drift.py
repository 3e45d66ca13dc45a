"""`groundwatch bench drift`: how soon a rise is seen, and how often one that is none."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from monitor.benchmarks.drift_bench import Plan, measure, steps
from monitor.benchmarks.drift_report import as_markdown, as_svg, tables
from monitor.cli.console import plain_table, progress, wide_console


def register(bench: typer.Typer) -> None:
    """Add `bench drift`."""
    bench.command(name="drift")(bench_drift)


def bench_drift(
    *,
    arl: Annotated[float, typer.Option(min=100, max=1e9, help="Average run length that is asked for.")] = 20_000,
    runs: Annotated[int, typer.Option(min=10, help="Simulated streams a cell.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed draws the same streams.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = os.cpu_count() or 1,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables to this file, too.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the plot of delays to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Run our detector, river's and a CUSUM that knows both rates over the same simulated streams.

    Stationary streams show the false alarms, streams that jump and streams that drift slowly the delays. Ours learns
    its baseline from 500, 2,000 and 10,000 verdicts. The default takes about four minutes on two cores.
    """
    plan = Plan(average_run_length=arl, runs=runs, seed=seed)
    with progress("streams", steps(plan), 0) as tick:
        figures = measure(plan, processes=processes, tick=tick)
    if markdown is not None:
        markdown.write_text(as_markdown(figures), encoding="utf-8")
    if svg is not None:
        svg.write_text(as_svg(figures), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(figures.to_json(), indent=2))
        return
    console = wide_console()
    for title, headings, rows in tables(figures):
        table = plain_table(headings[:2], headings[2:])
        table.title, table.title_justify = title, "left"
        for row in rows:
            table.add_row(*row)
        console.print(table)
