"""`groundwatch bench judge`: judges ranked on labelled data, like public leaderboards, but with intervals."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from monitor.benchmarks.asking import Panelist, missing
from monitor.benchmarks.figures import SAMPLES, cost_of
from monitor.benchmarks.labelled import collections, read_labelled, sample
from monitor.benchmarks.left_out import LEAST_COLLECTIONS, Fused, leave_out
from monitor.benchmarks.left_out_report import (
    COSTS,
    TITLE,
    cost_lines,
    left_out_json,
    left_out_markdown,
    left_out_notes,
    quality_headings,
    quality_lines,
)
from monitor.benchmarks.nested_screen import NestedScreens, steps
from monitor.benchmarks.panel import Benched, gguf_names, opened
from monitor.benchmarks.ranking import Column, Ranked, rank
from monitor.benchmarks.report import HEADINGS, cells, notes, shown, to_json, to_markdown
from monitor.benchmarks.scores import ScoreFile
from monitor.cli.bench_pipeline import machine
from monitor.cli.bench_throughput import bench_throughput
from monitor.cli.console import plain_table, progress, wide_console
from monitor.config import Settings, load_settings
from monitor.domain.errors import InvalidInput, JudgeUnavailable
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
    judges: Annotated[list[Benched] | None, typer.Option("--judge", help="Whom to measure; may be repeated.")] = None,
    per_file: Annotated[int, typer.Option(min=10, help="Rows of each data set, half of them hallucinated.")] = 150,
    gguf: Annotated[
        list[Path] | None, typer.Option(help="GGUF model; repeat to compare several. gguf.path when absent.")
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Manifest of the encoder judge; encoder.manifest when absent.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="File that keeps raw scores: go on after an interruption, ask nobody twice.")
    ] = None,
    calibration: Annotated[
        Thresholds, typer.Option(help="Thresholds from the other data sets, or from the settings' calibration.")
    ] = Thresholds.LEFT_OUT,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds for one trace, of judges that run here.")] = 120.0,
    samples: Annotated[int, typer.Option(min=100, help="Resamples of each interval.")] = SAMPLES,
    left_out: Annotated[
        bool | None,
        typer.Option(
            "--left-out/--no-left-out",
            help="Fuse the judges, fitted without each data set in turn; when it can be, if not said.",
        ),
    ] = None,
    throughput: Annotated[
        bool, typer.Option("--throughput", help="Measure one GGUF model's speed instead: ratios to llama.cpp's own.")
    ] = False,
    repetitions: Annotated[int, typer.Option(min=1, help="Times to measure with --throughput.")] = 5,
    markdown: Annotated[Path | None, typer.Option(help="File for all tables, as Markdown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as one JSON object on stdout.")] = False,
) -> None:
    """Rank judges on labelled data: quality with 95 % intervals, unjudged share, cost, speed.

    Rows are a fixed balanced sample of each data set. Thresholds come from a calibration fitted on the other data
    sets, so that no data set has a say in its own figures. Interrupted, the command reports what it has; with
    --scores the same command goes on where it stopped. The same scores give the same figures.
    """
    labelled = read_labelled(sources)
    rows = _in_turn(sample(labelled, per_data_set=per_file))
    settings = load_settings()
    if encoder is not None:
        settings = settings.model_copy(update={"encoder": settings.encoder.model_copy(update={"manifest": encoder})})
    if throughput:
        bench_throughput(rows, settings, gguf or [], repetitions=repetitions, as_json=as_json)
        return
    if not judges:
        raise typer.BadParameter("is needed, or --throughput", param_hint="--judge")
    session = _Session(rows, ScoreFile(scores), settings)
    stopped: BaseException | None = None
    try:
        session.ask_all(_wanted(judges, gguf or [], settings), deadline)
    except (KeyboardInterrupt, JudgeUnavailable) as error:
        if not session.answered:
            raise
        stopped = error
    known = load_calibration(settings.policy.calibration) if calibration is Thresholds.SETTINGS else None
    ranked = rank(rows, session.columns, calibration=known, samples=samples)
    fused = None
    if stopped is None and (left_out or (left_out is None and _can_leave_out(rows, session.columns))):
        fused = _left_out(labelled, rows, session.columns)
    _publish(ranked, fused, markdown, as_json=as_json)
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
            with progress(panelist.name, len(self._rows), len(self._rows) - len(open_rows)) as tick:
                panelist.answer(open_rows, self._kept, tick)


def _seen(identity: JudgeIdentity, rows: Sequence[Row]) -> int:
    """Rows of the shipped screen's training, by its manifest; 0 for every other judge."""
    manifest = json.loads(files("monitor.inference").joinpath("models/screen.rows.json").read_text(encoding="utf-8"))
    if identity.model_digest != manifest["model_sha256"]:
        return 0
    ids, contexts = frozenset(manifest["ids"]), frozenset(manifest["contexts"])
    return sum(short_hash(row.id) in ids or short_hash(row.group) in contexts for row in rows)


def _how_to_go_on(session: _Session, scores: Path | None) -> None:
    way = "run the same command to go on" if scores else "name a file with --scores to be able to go on"
    typer.echo(f"stopped after {session.answered:,} answers, which the figures above are of: {way}", err=True)


def _can_leave_out(rows: Sequence[Row], columns: Sequence[Column]) -> bool:
    return len(_fusable(columns)) > 1 and len(set(collections(rows).values())) >= LEAST_COLLECTIONS


def _fusable(columns: Sequence[Column]) -> list[Column]:
    # A cascade is a fusion already, of some of the others.
    return [column for column in columns if column.identity.name != Benched.CASCADE]


def _left_out(labelled: Sequence[Row], rows: Sequence[Row], columns: Sequence[Column]) -> Fused:
    raw: dict[str, Sequence[float | None]] = {
        column.name: [None if score is None else score.score for score in column.scores] for column in _fusable(columns)
    }
    costs = {
        column.name: cost_of([score for score in column.scores if score is not None]) for column in _fusable(columns)
    }
    screens = None
    if any(column.identity.name == Benched.SCREEN for column in columns):
        with progress("measuring, to train screens without", steps(labelled), 0) as tick:
            screens = NestedScreens(labelled, rows, tick)

    def scores_without(collection: str) -> Mapping[str, Sequence[float | None]]:
        return raw if screens is None else {**raw, Benched.SCREEN.value: screens.scores(collection)}

    try:
        return leave_out(rows, scores_without, costs)
    except ValueError as error:
        raise InvalidInput(f"--left-out: {error}") from None


def _publish(ranked: Sequence[Ranked], fused: Fused | None, markdown: Path | None, *, as_json: bool) -> None:
    if markdown is not None:
        markdown.write_text(to_markdown(ranked, *([left_out_markdown(fused)] if fused else [])), encoding="utf-8")
    if as_json:
        result = {**to_json(ranked), "left_out": fused and left_out_json(fused), "machine": machine()}
        typer.echo(json.dumps(result, indent=2))
        return
    console = wide_console()
    _show(console, "Means over the data sets", HEADINGS, [cells(one.name, one.mean) for one in ranked], notes(ranked))
    names = [one.name for one in ranked]
    _show(console, "AUROC by data set", ["data set", *names], _by_data_set(ranked), [])
    if fused is not None:
        _show(console, TITLE, quality_headings(fused), quality_lines(fused), left_out_notes(fused))
        _show(console, "What each judge adds and costs", COSTS, cost_lines(fused), [])


def _show(
    console: Console, title: str, headings: Sequence[str], lines: Sequence[Sequence[str]], told: Sequence[str]
) -> None:
    table = plain_table(headings[:1], headings[1:])
    for line in lines:
        table.add_row(*line)
    console.print(f"{title}\n", style="bold", highlight=False)
    console.print(table)
    for note in told:
        console.print(f"  {note}", style="dim", highlight=False)
    console.print()


def _by_data_set(ranked: Sequence[Ranked]) -> list[list[str]]:
    lines = []
    for name in sorted({name for one in ranked for name in one.data_sets}):
        found = [one.data_sets.get(name) for one in ranked]
        lines.append([name, *("-" if one is None else shown(one.metrics["auroc"]) for one in found)])
    return lines
