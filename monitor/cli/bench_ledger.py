"""`groundwatch bench ledger`: write rate, bytes a verdict, queries and retention, at one size after another."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.console import Console

from monitor.benchmarks.ledger_bench import Dropped, LedgerBench, Stage, traffic_of
from monitor.benchmarks.ledger_questions import guide_questions, saved_questions
from monitor.cli.bench_pipeline import machine
from monitor.cli.console import plain_table, wide_console
from monitor.config import PostgresSettings
from monitor.embedded.costs import cpu_seconds
from monitor.embedded.postgres import EmbeddedPostgres, embedded_postgres
from monitor.storage.asking import Question
from monitor.storage.engine import create_ledger_engine
from monitor.storage.migrate import upgrade

POSTGRES = {
    "shared_buffers": "2GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "maintenance_work_mem": "512MB",
    "random_page_cost": "1.1",
    "max_locks_per_transaction": "512",
}
"""What a Postgres for millions of verdicts a day should have set; docs/benchmarks.md says so."""


def register(bench: typer.Typer) -> None:
    """Add `bench ledger`."""
    bench.command(name="ledger")(bench_ledger)


def bench_ledger(
    *,
    verdicts: Annotated[
        list[int] | None, typer.Option(min=1000, help="Sizes to measure at; name it once for each. 1 million.")
    ] = None,
    days: Annotated[int, typer.Option(min=2, help="Days of event time that all of them are spread over.")] = 10,
    age: Annotated[
        int,
        typer.Option(
            min=0, help="Days that the ledger has before those, empty: it is as old as one that keeps two years."
        ),
    ] = 730,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Judgements in one transaction.")] = 2000,
    repeats: Annotated[int, typer.Option(min=2, help="Times that each query is asked.")] = 20,
    guide: Annotated[
        Path | None,
        typer.Option(
            help="Ask each question of this guide, too, such as docs/sql.md: queries after lines that end in ?."
        ),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(help="Where the scratch database is made; 2.5 GB a million.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Fill a scratch ledger through the ledger worker's own path, and measure at each size.

    Messages are decoded, then planned, written and committed, as the worker does it; fetching them from Kafka, and
    making them, are left out. Then: bytes a verdict with indexes (payload text apart), every saved query
    (`groundwatch sql --list`), and how long it takes to drop the oldest day while batches go on being written.
    Postgres runs on this machine, with the settings that are printed.
    """
    console = Console(stderr=True)
    sizes = sorted(verdicts or [1_000_000])
    of_guide = (
        {name: Question(sql=sql, timeout_seconds=600) for name, sql in guide_questions(guide).items()} if guide else {}
    )
    # A few more than asked for: what is written while a day is dropped.
    traffic = traffic_of(sizes[-1], days=days, more=max(sizes[-1] // 20, 50 * batch))
    with _scratch(directory) as server:
        url = server.url()
        upgrade(url)
        settings = PostgresSettings(url=SecretStr(url))
        engine = create_ledger_engine(settings, application_name="groundwatch-bench")
        bench = LedgerBench(
            engine,
            traffic,
            batch=batch,
            settings=settings,
            questions=saved_questions(),
            guide=of_guide,
            repeats=repeats,
            postgres_cpu=lambda: cpu_seconds(server.pid or 0),
            tell=lambda doing: console.print(f"  {doing}", style="dim", highlight=False),
        )
        if age:
            bench.grow_old(age)
        stages = [bench.stage(size) for size in sizes]
        console.print("  a day is dropped …", style="dim")
        dropped = bench.drop_a_day()
        engine.dispose()
    if as_json:
        said = {
            "machine": machine(),
            "postgres": POSTGRES,
            "age_days": age,
            "stages": [stage.to_json() for stage in stages],
        }
        typer.echo(json.dumps({**said, "dropped": asdict(dropped)}, indent=2))
        return
    _print(stages, dropped, batch=batch, age=age)


@contextmanager
def _scratch(directory: Path | None) -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(prefix="groundwatch-bench-", dir=directory, ignore_cleanup_errors=True) as home:
        Path(home).chmod(0o755)
        with embedded_postgres(Path(home) / "postgres", settings=POSTGRES) as server:
            yield server


def _print(stages: Sequence[Stage], dropped: Dropped, *, batch: int, age: int) -> None:
    out = wide_console()
    facts = machine()
    out.print(f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gib']} GiB, Python {facts['python']}")
    out.print("Postgres: " + ", ".join(f"{name} {value}" for name, value in POSTGRES.items()), highlight=False)
    out.print(f"\n[bold]Written, {batch:,} a transaction, into a ledger of {age:,} days before[/bold]")
    table = plain_table(
        ["verdicts"],
        [
            "verdicts/s",
            "slowest tenth",
            "with decoding",
            "CPU µs: worker",
            "Postgres",
            "bytes a verdict",
            "payload bytes",
        ],
    )
    for stage in stages:
        payload = next((size.heap + size.indexes for size in stage.sizes if size.name == "payloads"), 0)
        table.add_row(
            f"{stage.verdicts:,}",
            f"{stage.loaded.rate:,.0f}",
            f"{stage.loaded.slowest:,.0f}",
            f"{stage.loaded.whole_rate:,.0f}",
            f"{stage.loaded.python_us:.0f}",
            f"{stage.loaded.postgres_us:.0f}",
            f"{stage.bytes_per_verdict:.0f}",
            f"{payload / stage.verdicts:,.0f}",
        )
    out.print(table)
    if len(stages) > 1:
        growth = stages[-1].loaded.rate / stages[0].loaded.rate
        out.print(
            f"rate at {stages[-1].verdicts:,} is {growth:.2f} times that at {stages[0].verdicts:,}", highlight=False
        )
    for stage in stages:
        _print_stage(stage)
    out.print(
        f"\nThe oldest day went in [bold]{dropped.seconds:.2f} s[/bold]; meanwhile {dropped.verdicts:,} verdicts were"
        f" written, the slowest batch in {1000 * dropped.longest:.0f} ms (usually {1000 * dropped.usual:.0f} ms)",
        highlight=False,
    )


def _print_stage(stage: Stage) -> None:
    out = wide_console()
    out.print(f"\n[bold]{stage.verdicts:,} verdicts: bytes a verdict[/bold]")
    table = plain_table(["table"], ["rows", "indexes"])
    for size in stage.sizes:
        if (size.heap + size.indexes) / stage.verdicts >= 1:
            table.add_row(size.name, f"{size.heap / stage.verdicts:.0f}", f"{size.indexes / stage.verdicts:.0f}")
    out.print(table)
    for title, guide in (("saved queries", False), ("questions of the guide", True)):
        if not (asked := [one for one in stage.asked if one.guide == guide]):
            continue
        out.print(f"\n[bold]{stage.verdicts:,} verdicts: {title}, ms[/bold]")
        table = plain_table(["query"], ["rows", "p50", "p95"])
        for one in asked:
            table.add_row(one.name, f"{one.rows:,}", f"{one.p50:.1f}", f"{one.p95:.1f}")
        out.print(table)
