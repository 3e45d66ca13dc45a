"""`groundwatch bench attacks`: what hostile text in a trace does to each judge."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from monitor.benchmarks.asking import Panelist
from monitor.benchmarks.attacks import DEFAULT_ATTACKS, Attack, generate
from monitor.benchmarks.attacks_replies import try_parsers
from monitor.benchmarks.attacks_report import HEADINGS, Attacked, cells, notes, to_json, to_markdown
from monitor.benchmarks.attacks_run import Threshold, judge_all, outcomes, rows_to_judge
from monitor.benchmarks.labelled import read_labelled
from monitor.benchmarks.panel import Benched, opened
from monitor.benchmarks.scores import ScoreFile
from monitor.cli.console import plain_table, wide_console
from monitor.config import Settings, load_settings
from monitor.domain.errors import JudgeUnavailable
from monitor.domain.judgement import JudgeIdentity
from monitor.inference.loading import load_calibration
from monitor.inference.pool import LONGEST_PAUSE_SECONDS
from monitor.judging.odds import sigmoid

INTERRUPTED = 130


def register(bench: typer.Typer) -> None:
    """Add `bench attacks`."""
    bench.command(name="attacks")(bench_attacks)


def bench_attacks(
    *,
    sources: Annotated[
        list[Path],
        typer.Option("--input", "-i", help="Labelled JSONL or Parquet, ours or HaluBench's; a file or a folder."),
    ],
    judges: Annotated[list[Benched], typer.Option("--judge", help="Whom to attack; may be repeated.")],
    limit: Annotated[int, typer.Option(min=1, help="Attacks, taken in turn from every family.")] = DEFAULT_ATTACKS,
    seed: Annotated[int, typer.Option(help="Another seed attacks other rows in other words.")] = 0,
    gguf: Annotated[Path | None, typer.Option(help="GGUF model; gguf.path of the settings when absent.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="File that keeps raw scores: go on after an interruption, ask nobody twice.")
    ] = None,
    raw_threshold: Annotated[
        float, typer.Option(help="Log-odds from which a judge without calibration calls an answer hallucinated.")
    ] = 0.0,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds for one trace, of judges that run here.")] = 60.0,
    markdown: Annotated[Path | None, typer.Option(help="File for all tables, as Markdown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as one JSON object on stdout.")] = False,
) -> None:
    """Attack judges with hostile text in answers, documents and questions of hallucinated rows; count who flips.

    Every attack leaves its row hallucinated, and has a control beside it: harmless text of the same length in the
    same place. Calibrated judges are read at policy.threshold of the settings' calibration. Interrupted, the command
    reports what it has; with --scores the same command goes on where it stopped.
    """
    attacks = generate(read_labelled(sources), attacks=limit, seed=seed)
    settings = load_settings()
    kept = ScoreFile(scores)
    found: list[Attacked] = []
    stopped: BaseException | None = None
    try:
        for who in dict.fromkeys(judges):
            with opened(who, settings, gguf=gguf, deadline_seconds=deadline) as judge:
                threshold = _threshold(who, judge.identity, settings, raw_threshold)
                try:
                    _ask(judge, attacks, kept, _longest_seconds(who, settings, deadline))
                finally:
                    found.append(_heard(judge, threshold, attacks, kept))
    except (KeyboardInterrupt, JudgeUnavailable) as error:
        stopped = error
    parsed = try_parsers(attack.text for attack in attacks)
    _publish(found, parsed, seed, markdown, as_json=as_json)
    if stopped is not None:
        way = "run the same command to go on" if scores else "name a file with --scores to be able to go on"
        typer.echo(f"stopped; the figures above are of what was answered: {way}", err=True)
        if isinstance(stopped, KeyboardInterrupt):
            raise typer.Exit(INTERRUPTED)
        raise stopped


def _threshold(who: Benched, identity: JudgeIdentity, settings: Settings, raw: float) -> Threshold:
    if who is Benched.CASCADE:
        # Its word is a calibrated probability already, kept in log-odds.
        return Threshold(probability_of=sigmoid, probability=settings.policy.threshold)
    calibration = load_calibration(settings.policy.calibration)
    return Threshold(
        probability_of=lambda score: calibration.probability(identity.version, score),
        probability=settings.policy.threshold,
        raw=raw,
    )


def _longest_seconds(who: Benched, settings: Settings, deadline: float) -> float:
    """What a judge promises for one row; the pool's own settings say how often it tries."""
    if who is not Benched.POOL:
        return deadline
    return settings.pool.max_attempts * (settings.pool.deadline_seconds + LONGEST_PAUSE_SECONDS)


def _ask(judge: Panelist, attacks: Sequence[Attack], kept: ScoreFile, deadline_seconds: float) -> None:
    rows = rows_to_judge(attacks)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(judge.name, total=len(rows))
        judge_all(judge, rows, kept, deadline_seconds=deadline_seconds, tick=lambda: progress.advance(task))


def _heard(judge: Panelist, threshold: Threshold, attacks: Sequence[Attack], kept: ScoreFile) -> Attacked:
    found = list(outcomes(attacks, lambda row: kept.known(judge.identity, row), threshold))
    return Attacked(name=judge.name, identity=judge.identity, threshold=threshold, found=found)


def _publish(
    found: Sequence[Attacked], parsed: Mapping[str, int], seed: int, markdown: Path | None, *, as_json: bool
) -> None:
    if markdown is not None:
        markdown.write_text(to_markdown(found, parsed), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(to_json(found, parsed, seed), indent=2))
        return
    console = wide_console()
    for one in found:
        table = plain_table([f"{one.name}, {HEADINGS[0]}"], HEADINGS[1:])
        for family, summary in one.groups["family"].items():
            table.add_row(*cells(family, summary))
        table.add_row(*cells("all", one.overall), style="bold")
        console.print(table)
    for note in notes(found, parsed):
        console.print(f"  {note}", style="dim", highlight=False)
