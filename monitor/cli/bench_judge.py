"""`groundwatch bench judge`: judges ranked on labelled data, like public leaderboards, but with intervals."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from monitor.benchmarks.asking import Panelist, missing
from monitor.benchmarks.figures import SAMPLES
from monitor.benchmarks.labelled import read_labelled, sample
from monitor.benchmarks.panel import Benched, gguf_names, opened
from monitor.benchmarks.ranking import Column, Ranked, rank
from monitor.benchmarks.report import HEADINGS, cells, notes, shown, to_json, to_markdown
from monitor.benchmarks.scores import ScoreFile
from monitor.cli.bench_pipeline import machine
from monitor.cli.console import plain_table, wide_console
from monitor.config import Settings, load_settings
from monitor.domain.errors import JudgeUnavailable
from monitor.domain.judgement import JudgeIdentity
from monitor.inference.loading import load_calibration
from monitor.training.rows import Row, short_hash
from monitor.training.screen import by_file

INTERRUPTED = 130


class Thresholds(StrEnum):
    """Which calibration turns raw scores into probabilities."""

    LEFT_OUT = "left-out"
    SETTINGS = "settings"


def register(bench: typer.Typer) -> None:
    """Add `bench judge`."""
    bench.command(name="judge")(bench_judge)


def bench_judge(
    *,
    sources: Annotated[
        list[Path],
        typer.Option("--input", "-i", help="Labelled JSONL or Parquet, ours or HaluBench's; a file or a folder."),
    ],
    judges: Annotated[list[Benched], typer.Option("--judge", help="Whom to measure; may be repeated.")],
    per_file: Annotated[int, typer.Option(min=10, help="Rows of each data set, half of them hallucinated.")] = 150,
    gguf: Annotated[
        list[Path] | None, typer.Option(help="GGUF model; repeat to compare several. gguf.path when absent.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="File that keeps raw scores: go on after an interruption, ask nobody twice.")
    ] = None,
    calibration: Annotated[
        Thresholds, typer.Option(help="Thresholds from the other data sets, or from the settings' calibration.")
    ] = Thresholds.LEFT_OUT,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds for one trace, of judges that run here.")] = 120.0,
    samples: Annotated[int, typer.Option(min=100, help="Resamples of each interval.")] = SAMPLES,
    markdown: Annotated[Path | None, typer.Option(help="File for all tables, as Markdown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as one JSON object on stdout.")] = False,
) -> None:
    """Rank judges on labelled data: quality with 95 % intervals, unjudged share, cost, speed.

    Rows are a fixed balanced sample of each data set. Thresholds come from a calibration fitted on the other data
    sets, so that no data set has a say in its own figures. Interrupted, the command reports what it has; with
    --scores the same command goes on where it stopped. The same scores give the same figures.
    """
    rows = _in_turn(sample(read_labelled(sources), per_data_set=per_file))
    settings = load_settings()
    session = _Session(rows, ScoreFile(scores), settings)
    stopped: BaseException | None = None
    try:
        session.ask_all(_wanted(judges, gguf or [], settings), deadline)
    except (KeyboardInterrupt, JudgeUnavailable) as error:
        stopped = error
    known = load_calibration(settings.policy.calibration) if calibration is Thresholds.SETTINGS else None
    ranked = rank(rows, session.columns, calibration=known, samples=samples)
    _publish(ranked, markdown, as_json=as_json)
    if stopped is not None:
        _how_to_go_on(session, scores)
        if isinstance(stopped, KeyboardInterrupt):
            raise typer.Exit(INTERRUPTED)
        raise stopped


_Wanted = tuple[Benched, str, Path | None]


def _wanted(judges: Sequence[Benched], gguf: Sequence[Path], settings: Settings) -> list[_Wanted]:
    """Judges with their names, each once; one for each GGUF model."""
    models = list(dict.fromkeys(gguf)) or ([settings.gguf.path] if settings.gguf.path else [])
    found: list[_Wanted] = []
    for who in dict.fromkeys(judges):
        if who is Benched.GGUF and models:
            found += [(who, name, path) for name, path in zip(gguf_names(models), models, strict=True)]
        else:
            found.append((who, who.value, models[0] if models else None))
    return found


def _in_turn(rows: Sequence[Row]) -> list[Row]:
    """One row of each data set after another: what an interruption leaves speaks of all of them."""
    turns = zip_longest(*by_file(rows).values())
    return [row for turn in turns for row in turn if row is not None]


class _Session:
    """What has been asked so far."""

    def __init__(self, rows: Sequence[Row], kept: ScoreFile, settings: Settings) -> None:
        self._rows = rows
        self._kept = kept
        self._settings = settings
        self._heard: list[tuple[str, JudgeIdentity]] = []

    @property
    def columns(self) -> list[Column]:
        """The scores of every judge that was opened."""
        return [
            Column(
                name=name,
                identity=identity,
                scores=[self._kept.known(identity, row) for row in self._rows],
                seen=_seen(identity, self._rows),
            )
            for name, identity in self._heard
        ]

    @property
    def answered(self) -> int:
        """Scores there are."""
        return sum(score is not None for column in self.columns for score in column.scores)

    def ask_all(self, wanted: Sequence[_Wanted], deadline_seconds: float) -> None:
        """Ask one judge after another, so that only one model is in memory."""
        for who, name, gguf in wanted:
            with opened(who, self._settings, gguf=gguf, name=name, deadline_seconds=deadline_seconds) as panelist:
                self._heard.append((name, panelist.identity))
                self._ask(panelist)

    def _ask(self, panelist: Panelist) -> None:
        open_rows = missing(panelist, self._rows, self._kept)
        if open_rows:
            with _progress(panelist.name, len(self._rows), len(self._rows) - len(open_rows)) as tick:
                panelist.answer(open_rows, self._kept, tick)


def _seen(identity: JudgeIdentity, rows: Sequence[Row]) -> int:
    """Rows of the shipped screen's training, by its manifest; 0 for every other judge."""
    manifest = json.loads(files("monitor.inference").joinpath("models/screen.rows.json").read_text(encoding="utf-8"))
    if identity.model_digest != manifest["model_sha256"]:
        return 0
    ids, contexts = frozenset(manifest["ids"]), frozenset(manifest["contexts"])
    return sum(short_hash(row.id) in ids or short_hash(row.group) in contexts for row in rows)


@contextmanager
def _progress(title: str, total: int, done: int) -> Iterator[Callable[[], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, completed=done)
        yield lambda: progress.advance(task)


def _how_to_go_on(session: _Session, scores: Path | None) -> None:
    way = "run the same command to go on" if scores else "name a file with --scores to be able to go on"
    typer.echo(f"stopped after {session.answered:,} answers, which the figures above are of: {way}", err=True)


def _publish(ranked: Sequence[Ranked], markdown: Path | None, *, as_json: bool) -> None:
    if markdown is not None:
        markdown.write_text(to_markdown(ranked), encoding="utf-8")
    if as_json:
        result: dict[str, Any] = {**to_json(ranked), "machine": machine()}
        typer.echo(json.dumps(result, indent=2))
        return
    console = wide_console()
    table = plain_table(HEADINGS[:1], HEADINGS[1:])
    for one in ranked:
        table.add_row(*cells(one.name, one.mean))
    console.print("Means over the data sets", style="bold")
    console.print(table)
    console.print("\nAUROC by data set", style="bold")
    console.print(_by_data_set(ranked))
    for note in notes(ranked):
        console.print(f"  {note}", style="dim", highlight=False)


def _by_data_set(ranked: Sequence[Ranked]) -> Any:
    table = plain_table(["data set"], [one.name for one in ranked])
    for name in sorted({name for one in ranked for name in one.data_sets}):
        found = [one.data_sets.get(name) for one in ranked]
        table.add_row(name, *("-" if one is None else shown(one.metrics["auroc"]) for one in found))
    return table
