"""`groundwatch bench`: figures for this machine. Never an assertion: they are printed to be compared."""

import typer

from monitor.cli import (
    bench_attacks,
    bench_drift,
    bench_judge,
    bench_ledger,
    bench_peers,
    bench_pipeline,
    bench_screen,
    bench_sidecar,
)


def register(app: typer.Typer) -> None:
    """Add the `bench` commands."""
    bench = typer.Typer(no_args_is_help=True, help="Measure on this machine; prints figures, asserts nothing.")
    bench_judge.register(bench)
    bench_peers.register(bench)
    bench_attacks.register(bench)
    bench_screen.register(bench)
    bench_drift.register(bench)
    bench_pipeline.register(bench)
    bench_sidecar.register(bench)
    bench_ledger.register(bench)
    app.add_typer(bench, name="bench")
