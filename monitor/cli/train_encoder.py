"""`groundwatch train encoder`: an encoder judge composed of any sentence encoder, fitted to labelled rows."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from monitor.cli.console import plain_table, with_progress
from monitor.domain.errors import InvalidInput
from monitor.training.rows import Row, read_rows
from monitor.training.split import balanced, is_calibration_row

if TYPE_CHECKING:
    from monitor.training.encoder_export import TrainedEncoder

_PIPE_WIDTH = 160
_FIGURES = ("trivial_auroc", "screen_auroc", "auroc", "fused_auroc", "correlation")


def train_encoder(
    *,
    base: Annotated[Path, typer.Option(help="ONNX sentence encoder; its first output is the last hidden state.")],
    tokenizer: Annotated[Path, typer.Option(help="The encoder's tokenizer.json.")],
    data: Annotated[list[Path], typer.Option("--data", "-d", help="Labelled JSONL (.gz); may be repeated.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for model, tokenizer and encoder.json.")],
    licence: Annotated[str, typer.Option(help="Licence of the encoder's weights, for the manifest.")],
    source: Annotated[str, typer.Option(help="Where the encoder is from, for the manifest.")],
    name: Annotated[str, typer.Option(help="What to call the judge's model.")] = "support",
    max_tokens: Annotated[int, typer.Option(min=64, help="Longest input that the encoder was made for.")] = 512,
    rows_per_file: Annotated[int, typer.Option(min=20, help="Balanced sample of each file; more takes longer.")] = 400,
    quantisation: Annotated[str | None, typer.Option(help="Number type of the weights, such as int8.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The evaluation as one JSON object on stdout.")] = False,
) -> None:
    """Compose an encoder judge, fit it to labelled rows, and measure it on each file that it was fitted without.

    The encoder reads answer and documents apart; each token of the answer is compared with the nearest token of the
    documents, and a small fitted head turns that evidence into log-odds. Beside each figure stand those of the share
    of answer words that the documents lack, and of a screen fitted to the same rows. Rows that calibration uses are
    never fitted on.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        console = Console(stderr=True, width=_PIPE_WIDTH)
    rows = _sample(data, rows_per_file)
    try:
        # Loaded here: onnx, onnxruntime and tokenizers are extras, and other commands must start without them.
        from monitor.training.encoder_export import Base  # noqa: PLC0415 - onnx is an extra
        from monitor.training.encoder_export import train_encoder as fitted  # noqa: PLC0415 - onnx is an extra
    except ImportError as error:
        raise InvalidInput(f"this needs groundwatch[train,encoder] and [cpu] or [gpu]: {error}") from error
    parts = Base(
        model=_read(base),
        tokenizer=_read(tokenizer),
        max_tokens=max_tokens,
        name=name,
        licence=licence,
        source=source,
        quantisation=quantisation,
    )
    console.print(f"{len(rows):,} rows; encoding …", style="dim")
    trained = fitted(parts, rows, watch=lambda each: with_progress(each, "encoding"))
    trained.write(output)
    if as_json:
        typer.echo(json.dumps(_summary(trained, len(rows)), indent=2))
    _narrate(console, trained, output)


def _sample(paths: Sequence[Path], limit: int) -> list[Row]:
    files: dict[str, list[Row]] = defaultdict(list)
    for path in sorted(paths, key=lambda each: each.name):
        for row in read_rows(path):
            if not is_calibration_row(row.raw):
                files[row.file].append(row)
    sampled = []
    for rows in files.values():
        chosen = {str(raw["id"]) for raw in balanced([row.raw for row in rows], limit=limit)}
        sampled += [row for row in rows if row.id in chosen]
    return sampled


def _summary(trained: "TrainedEncoder", rows: int) -> dict[str, object]:
    return {
        "model_sha256": trained.manifest.model.sha256,
        "rows": rows,
        "weights": trained.head.weights.tolist(),
        "bias": trained.head.bias,
        "left_out": [asdict(one) for one in trained.left_out],
    }


def _narrate(console: Console, trained: "TrainedEncoder", output: Path) -> None:
    table = plain_table(["file"], ["rows", *(name.replace("_", " ") for name in _FIGURES)])
    for one in trained.left_out:
        table.add_row(one.file, str(one.rows), *(f"{getattr(one, name):.3f}" for name in _FIGURES))
    means = [sum(getattr(one, name) for one in trained.left_out) / len(trained.left_out) for name in _FIGURES]
    table.add_row("mean", "", *(f"{mean:.3f}" for mean in means))
    console.print(table)
    console.print(f"{output}: model sha256 {trained.manifest.model.sha256}", highlight=False)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
