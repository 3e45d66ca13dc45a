"""`groundwatch train`: the shipped screen and the demo's sample, made again from labelled rows."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from monitor.cli.train_encoder import train_encoder
from monitor.domain.errors import InvalidInput
from monitor.training.card import Trained
from monitor.training.card import card as describe
from monitor.training.card import manifest as list_rows
from monitor.training.demo_sample import build_sample
from monitor.training.logistic import Logistic
from monitor.training.rows import Row, read_rows
from monitor.training.screen import LeftOut, evaluate, train, training_rows

Data = Annotated[list[Path], typer.Option("--data", "-d", help="Labelled JSONL (.gz); may be repeated.")]


def register(app: typer.Typer) -> None:
    """Add the `train` commands."""
    train = typer.Typer(no_args_is_help=True, help="Make the shipped model and the demo's sample again.")
    train.command(name="screen")(train_screen)
    train.command(name="encoder")(train_encoder)
    train.command(name="demo-sample")(train_demo_sample)
    app.add_typer(train, name="train")


def train_screen(
    *,
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    card: Annotated[Path | None, typer.Option(help="The model card to write.")] = None,
    manifest: Annotated[Path | None, typer.Option(help="JSON with hashes of all rows used, to write.")] = None,
    holdout: Annotated[Path | None, typer.Option(help="Ids never to train on, one a line.")] = None,
    exclude: Annotated[
        Path | None, typer.Option(help="Labelled JSONL (.gz) never to train on; the demo's sample when absent.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The evaluation as one JSON object on stdout.")] = False,
) -> None:
    """Fit the screen to labelled rows, and measure it on each file that it was trained without.

    Rows that calibration uses, and rows that share a context with the demo's, are never trained on. The same
    files in any order make the same model.
    """
    console = Console(stderr=True)
    rows = _read(data)
    usable = training_rows(rows, held_out=_excluded(exclude), held_out_ids=_ids(holdout))
    console.print(f"{len(usable):,} of {len(rows):,} rows train; measuring each file with the others …", style="dim")
    try:
        left_out = evaluate(rows, usable)
        model = train(usable)
    except ValueError as error:
        raise InvalidInput(f"a file has too few rows left to train and measure on: {error}") from error
    trained = Trained(model=model, onnx=_exported(model), rows=usable, left_out=left_out)
    output.write_bytes(trained.onnx)
    if card is not None:
        card.write_text(describe(trained), encoding="utf-8")
    if manifest is not None:
        manifest.write_text(json.dumps(list_rows(trained)) + "\n", encoding="utf-8")
    digest = hashlib.sha256(trained.onnx).hexdigest()
    if as_json:
        summary = {"model_sha256": digest, "rows": len(usable), "left_out": [asdict(one) for one in left_out]}
        typer.echo(json.dumps(summary, indent=2))
    _narrate(console, left_out, f"{output}: sha256 {digest}")


def train_demo_sample(
    *,
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="The gzipped JSONL to write.")],
) -> None:
    """Draw the demo's sample of real labelled rows; train the screen afterwards, so that it leaves them out."""
    packed = build_sample(_read(data))
    output.write_bytes(packed)
    typer.echo(f"{output}: {len(packed):,} bytes, sha256 {hashlib.sha256(packed).hexdigest()}", err=True)


def _exported(model: Logistic) -> bytes:
    try:
        # Loaded here: onnx comes with the extra `train`, and the other commands must start without it.
        from monitor.training.export import to_onnx  # noqa: PLC0415 - onnx is an extra
    except ImportError as error:
        raise InvalidInput("training needs onnx; install groundwatch[train]") from error
    return to_onnx(model)


def _read(paths: Sequence[Path]) -> list[Row]:
    ordered = sorted(paths, key=lambda path: path.name)
    return [row for path in ordered for row in read_rows(path)]


def _excluded(path: Path | None) -> list[Row]:
    if path is not None:
        return read_rows(path)
    with as_file(files("monitor.embedded").joinpath("data/demo_traces.jsonl.gz")) as shipped:
        return read_rows(shipped)


def _ids(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    try:
        return frozenset(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: {error}") from error


def _narrate(console: Console, left_out: Sequence[LeftOut], written: str) -> None:
    table = Table(title="Each file, judged by a screen trained without its family")
    columns = (
        "file",
        "rows",
        "trivial_auroc",
        "auroc",
        "balanced_accuracy",
        "trivial_composed_auroc",
        "composed_auroc",
    )
    for name in columns:
        table.add_column(name.replace("_", " "), justify="left" if name == "file" else "right")
    for one in left_out:
        cells = [getattr(one, name) for name in columns]
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells))
    console.print(table)
    console.print(written, highlight=False)
