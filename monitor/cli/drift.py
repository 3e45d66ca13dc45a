"""`groundwatch drift`: what the detector would have said about recorded verdicts, and what is behind an alert."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from monitor.cli.console import wide_console
from monitor.cli.drift_explain import explain_alert
from monitor.domain.errors import InvalidInput
from monitor.drift.recorded import LABEL, PROBABILITY, read_rows
from monitor.drift.replay import Backtest, ReplayedAlarm, Row
from monitor.drift.seasons import Seasons

_PROGRESS_EVERY = 50_000

app = typer.Typer(no_args_is_help=True, help="Drift of the hallucination rate.")


def register(root: typer.Typer) -> None:
    """Add the `drift` commands."""
    root.add_typer(app, name="drift")


app.command(name="explain")(explain_alert)


@app.callback()
def _drift() -> None:
    """Drift of the hallucination rate."""


@app.command()
def backtest(
    *,
    source: Annotated[
        Path,
        typer.Option(
            "--input", "-i", help="CSV with the columns event_time, segment, label or p; `-` is standard input."
        ),
    ],
    arl: Annotated[
        float, typer.Option(min=100, max=1e12, help="Verdicts between false alarms, at least, on average.")
    ] = 20_000,
    baseline_n: Annotated[
        int, typer.Option(min=1, help="Verdicts of a segment that its baseline is learned from.")
    ] = 2000,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Watch the calibrated probabilities of column p, not the labels.")
    ] = False,
    seasons: Annotated[
        Seasons, typer.Option(help="Compare each hour with its like; the baseline then spans a day or a week.")
    ] = Seasons.NONE,
    second_opinion: Annotated[
        bool, typer.Option("--second-opinion", help="Say when river's ADWIN saw the change, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line and alarm.")] = False,
) -> None:
    """Replay recorded verdicts and print the alarms that they would have raised.

    `event_time` is ISO 8601 (UTC unless it says otherwise), `label` is 0/1, PASS/FAIL, faithful/hallucinated or
    true/false, `p` the probability that the answer is hallucinated. Rows may be out of order: each segment is sorted by
    event time, rows of equal time stay as they are. A fall that ends a rise `recovers`: the baseline of before returns.
    """
    plan = Backtest(
        average_run_length=arl, baseline_verdicts=baseline_n, seasons=seasons, second_opinion=second_opinion
    )
    with _opened(source) as lines:
        alarms = plan.run(_counted(read_rows(lines, verdict=PROBABILITY if probabilities else LABEL)))
    if as_json:
        for raised in alarms:
            typer.echo(json.dumps(_as_json(raised), ensure_ascii=False))
    else:
        wide_console().print(_as_table(alarms))


def _opened(source: Path) -> Any:
    if str(source) == "-":
        return nullcontext(sys.stdin)
    try:
        stream: TextIO = source.open(encoding="utf-8", newline="")
    except OSError as error:
        raise InvalidInput(f"{source}: {error.strerror}") from None
    return stream


def _counted(rows: Iterable[Row]) -> Iterator[Row]:
    """The same rows, with their number on standard error while that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.completed:,.0f} verdicts read"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("read", total=None)
        for number, row in enumerate(rows):
            if number % _PROGRESS_EVERY == 0:
                progress.update(task, completed=number)
            yield row


def _as_json(raised: ReplayedAlarm) -> dict[str, Any]:
    alarm = raised.alarm
    return {
        "segment": raised.segment,
        "event_time": alarm.event_time.isoformat(),
        "direction": alarm.direction.value,
        "evidence": round(alarm.evidence, 6),
        "rate_before": round(alarm.rate_before, 6),
        "rate_after": round(alarm.rate_after, 6),
        "change_at": alarm.change_at.isoformat(),
        "change_earliest": alarm.change_earliest and alarm.change_earliest.isoformat(),
        "change_latest": alarm.change_latest and alarm.change_latest.isoformat(),
        "recovers": alarm.recovers,
        "second_opinion": raised.second_opinion and raised.second_opinion.isoformat(),
        "delay_verdicts": alarm.delay_verdicts,
        "verdicts_seen": alarm.verdicts_seen,
    }


def _as_table(alarms: list[ReplayedAlarm]) -> Table:
    table = Table(title=f"{len(alarms)} alarm{'' if len(alarms) == 1 else 's'}")
    for heading in ("segment", "what", "raised by the verdict of", "changed at", "ADWIN"):
        table.add_column(heading, overflow="fold")
    for heading in ("rate before", "rate after", "evidence", "delay"):
        table.add_column(heading, justify="right")
    for raised in alarms:
        alarm = raised.alarm
        table.add_row(
            raised.segment,
            "recovery" if alarm.recovers else alarm.direction.value,
            f"{alarm.event_time:%Y-%m-%d %H:%M:%S%z}",
            f"{alarm.change_at:%Y-%m-%d %H:%M:%S%z}",
            f"{raised.second_opinion:%Y-%m-%d %H:%M:%S%z}" if raised.second_opinion else "-",
            f"{alarm.rate_before:.1%}",
            f"{alarm.rate_after:.1%}",
            f"{alarm.evidence:.1f}",
            f"{alarm.delay_verdicts} verdicts",
        )
    return table
