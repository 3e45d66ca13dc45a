"""`groundwatch calibrate`: from labelled rows to calibration.json."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from monitor.benchmarks.scores import Ask, ScoreFile
from monitor.cli.console import with_progress
from monitor.config import Settings, load_settings
from monitor.domain.errors import InvalidInput, InvalidSettings
from monitor.domain.judgement import JudgeIdentity
from monitor.inference.loading import load_edge, load_screen
from monitor.inference.pool import PoolJudge
from monitor.judging.calibration import Calibration
from monitor.judging.calibration_fit import fit_calibration
from monitor.judging.calibration_judge import JudgeCalibration
from monitor.outbound import AsyncHttpClient
from monitor.training.rows import Row, read_rows, without
from monitor.training.split import balanced, is_calibration_row

_BINS = 10
_BAR = 40


class Calibrated(StrEnum):
    """Whose scores are calibrated."""

    SCREEN = "screen"
    GGUF = "gguf"
    POOL = "pool"


@dataclass(frozen=True, slots=True)
class _Scored:
    """One judge's raw scores, aligned with the rows."""

    identity: JudgeIdentity
    scores: list[float | None]


def register(app: typer.Typer) -> None:
    """Add `calibrate`."""
    app.command()(calibrate)


def calibrate(
    *,
    sources: Annotated[list[Path], typer.Option("--input", "-i", help="Labelled JSONL; may be repeated.")],
    judges: Annotated[list[Calibrated], typer.Option("--judge", help="Whom to calibrate; may be repeated.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The calibration file to write.")],
    exclude: Annotated[
        list[Path] | None, typer.Option(help="Labelled JSONL (.gz) whose rows and contexts are not used.")
    ] = None,
    gguf: Annotated[Path | None, typer.Option(help="GGUF model; gguf.path of the settings when absent.")] = None,
    limit: Annotated[int | None, typer.Option(min=40, help="Rows for the slow judges; all when absent.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="File that keeps raw scores: a judge is not asked twice about a row.")
    ] = None,
    all_rows: Annotated[
        bool, typer.Option("--all-rows", help="Use every row: for rows that no judge was trained on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The calibration as JSON on stdout, too.")] = False,
) -> None:
    """Fit each judge's raw score to a probability, and the weights of the judges together.

    Only rows whose context the screen's training leaves out are used, as many faithful as hallucinated, so that
    0.5 means that the evidence speaks for neither side. A judge whose probabilities are not clearly better than
    that gets no weight. All judges are measured cross-validated on the rows of this fit.
    """
    rows = select_rows(sources, exclude or [], all_rows=all_rows)
    kept = ScoreFile(scores)
    settings = load_settings()
    if gguf is not None:
        settings = settings.model_copy(update={"gguf": settings.gguf.model_copy(update={"path": gguf})})
    scored = [_score(name, settings, rows, limit, kept) for name in dict.fromkeys(judges)]
    labels = [row.hallucinated for row in rows]
    try:
        fitted = fit_calibration([one.identity for one in scored], [one.scores for one in scored], labels)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    text = json.dumps(fitted.to_json(), indent=2)
    output.write_text(text + "\n", encoding="utf-8")
    if as_json:
        typer.echo(text)
    _narrate(fitted, scored, labels)


def select_rows(sources: Sequence[Path], exclude: Sequence[Path], *, all_rows: bool) -> list[Row]:
    """The rows to fit on, balanced, in the order in which a limit takes them."""
    shut_out = [row for path in exclude for row in read_rows(path)]
    rows = without(
        [row for path in sources for row in read_rows(path)],
        ids=frozenset(row.id for row in shut_out),
        groups=frozenset(row.group for row in shut_out),
    )
    # By identity and not by id: files of different makers may use the same ids.
    rows_by_raw = {id(row.raw): row for row in rows if all_rows or is_calibration_row(row.raw)}
    return [rows_by_raw[id(raw)] for raw in balanced([row.raw for row in rows_by_raw.values()])]


def _score(name: Calibrated, settings: Settings, rows: Sequence[Row], limit: int | None, kept: ScoreFile) -> _Scored:
    # The screen is fast enough for every row.
    asked = rows if name is Calibrated.SCREEN or limit is None else rows[:limit]
    with _judge(name, settings) as (identity, ask):
        scores = [kept.get_or_ask(identity, row, ask).score for row in with_progress(asked, f"{name.value} scores")]
    return _Scored(identity, [*scores, *[None] * (len(rows) - len(asked))])


@contextmanager
def _judge(name: Calibrated, settings: Settings) -> Iterator[tuple[JudgeIdentity, Ask]]:
    if name is Calibrated.POOL:
        with asyncio.Runner() as runner:
            client = AsyncHttpClient(deadline_seconds=settings.pool.deadline_seconds)
            pool = PoolJudge(settings.pool, client)
            try:
                yield pool.identity, lambda trace: runner.run(pool.judge(trace))
            finally:
                runner.run(client.close())
        return
    judge = load_screen(settings) if name is Calibrated.SCREEN else load_edge(settings)
    if judge is None:
        raise InvalidSettings("--judge gguf needs --gguf PATH, or gguf.path in the settings")
    deadline = settings.gguf.deadline_seconds
    yield judge.identity, lambda trace: judge.judge(trace, deadline_seconds=deadline)


def _narrate(fitted: Calibration, scored: Sequence[_Scored], labels: Sequence[bool]) -> None:
    console = Console(stderr=True)
    fusion = max(fitted.fusions, key=lambda one: len(one.weights), default=None)
    table = Table(title=f"Calibration of {len(labels)} rows, {sum(labels) / len(labels):.0%} hallucinated")
    for heading in ("judge", "model"):
        table.add_column(heading, overflow="fold")
    for heading in ("rows", "AUROC", "Brier", "ECE", "log loss", "weight"):
        table.add_column(heading, justify="right")
    for one in fitted.judges.values():
        weight = fusion.weights[one.version] if fusion else float(one.informative)
        figures = (one.auroc, one.brier, one.ece, one.log_loss, weight)
        table.add_row(one.version, one.model, str(one.rows), *(f"{figure:.3f}" for figure in figures))
    console.print(table)
    for judge in scored:
        console.print(f"\nReliability of {judge.identity.version}: probability, share hallucinated, rows")
        for line in reliability(fitted.judges[judge.identity.version], fitted, judge.scores, labels):
            console.print(line, highlight=False)


def reliability(
    judge: JudgeCalibration, fitted: Calibration, scores: Sequence[float | None], labels: Sequence[bool]
) -> list[str]:
    """A text curve: one line for each tenth of probability that holds rows."""
    pairs: list[tuple[Any, bool]] = [
        (fitted.probability(judge.version, score), label)
        for score, label in zip(scores, labels, strict=True)
        if score is not None
    ]
    places = np.minimum((np.array([pair[0] for pair in pairs]) * _BINS).astype(int), _BINS - 1)
    truth = np.array([pair[1] for pair in pairs])
    lines = []
    for place in range(_BINS):
        inside = truth[places == place]
        if len(inside):
            share = float(inside.mean())
            bar = "█" * round(share * _BAR)
            lines.append(f"{place / _BINS:.1f}-{(place + 1) / _BINS:.1f} {share:5.2f} {bar:<{_BAR}} {len(inside)}")
    return lines
