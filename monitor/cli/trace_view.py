"""A trace's lineage as a person reads it: a line of time, and under it the verdict with its evidence."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from monitor.cli.console import printable
from monitor.cli.trace_tellers import TELLERS, Lines
from monitor.storage.lineage import Happening, Step, TraceKey

_NARROW = 80
"""Columns: with fewer, times and steps would leave too little to what is told."""

_STYLES = {
    Happening.DEAD_LETTER: "red",
    Happening.REVISED: "bold yellow",
    Happening.ALERT: "red",
    Happening.WAITS: "yellow",
    Happening.VERDICT: "bold",
}
_OF_ONE_ANSWER = {Happening.REVISED, Happening.WAITS, Happening.VERDICT}
"""What may be told far from the answer that it is about."""


def print_lineage(console: Console, key: TraceKey | None, steps: Sequence[Step]) -> None:
    """Draw the steps of one trace; without a key, dead letters that nobody could read as a trace."""
    answered = next((step.facts for step in steps if step.happening is Happening.ANSWERED), None)
    if key is None or answered is None:
        console.print(Text("no trace, but records that could not be read as one", style="bold"))
    else:
        whose = f"{key.tenant}/{answered['service']}/{answered['environment']}"
        console.print(Text(printable(f"{key.trace_id} of {whose}"), style="bold"))
    several = len({(step.evaluator, step.judge_version) for step in steps if step.judge_version}) > 1
    answers = sum(step.happening is Happening.ANSWERED for step in steps)
    rows = list(_rows(steps, several=several, answers=answers))
    if console.width < _NARROW:
        _print_below(console, rows)
    else:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="dim")
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print()


def _rows(steps: Sequence[Step], *, several: bool, answers: int) -> Iterator[tuple[str, Text, Text]]:
    """Time, step and what is told of it; a date has a row of its own."""
    day, version = "", ""
    for step in steps:
        if step.at and f"{step.at:%Y-%m-%d}" != day:
            day = f"{step.at:%Y-%m-%d}"
            yield day, Text(), Text()
        lines = TELLERS[step.happening](step.facts)
        if several and step.judge_version and step.judge_version != version:
            version = step.judge_version
            lines.insert(0, (f"{step.evaluator}, {version}", "dim"))
        if answers > 1 and step.event_time and step.happening in _OF_ONE_ANSWER:
            lines.insert(0, (f"of the answer of {step.event_time:%Y-%m-%d %H:%M:%S}", "dim"))
        time = f"{step.at:%H:%M:%S}.{step.at.microsecond // 1000:03d}" if step.at else ""
        yield time, Text(step.happening.value, style=_STYLES.get(step.happening, "cyan")), _joined(lines)


def _print_below(console: Console, rows: Sequence[tuple[str, Text, Text]]) -> None:
    """Each step's text under its name: beside it, there would be no room."""
    for time, name, told in rows:
        console.print(Text.assemble((f"{time:<14}" if name else time, "dim"), name), overflow="fold")
        if told:
            console.print(Padding(told, (0, 0, 0, 2)), overflow="fold")


def _joined(lines: Lines) -> Text:
    return Text("\n").join(
        line if isinstance(line, Text) else Text(printable(line), style=style) for line, style in lines
    )
