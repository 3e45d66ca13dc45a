"""How tables look, and how wide they are."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    track,
)
from rich.table import Table

Item = TypeVar("Item")

_PIPE_WIDTH = 200


def printable(text: str) -> str:
    """The text on one line, without what a terminal would obey or hide: each such character becomes a blank."""
    return "".join(char if char.isprintable() else " " for char in text)


def plain_table(words: Sequence[str], numbers: Sequence[str]) -> Table:
    """A table without lines: columns of words, then of numbers, none of them broken."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in words:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def wide_console(*, stderr: bool = False) -> Console:
    """Standard output, or error; wide enough for every table when it goes to a file or a pipe."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_PIPE_WIDTH)


def with_progress(items: Sequence[Item], title: str) -> Iterator[Item]:
    """The same items, with a bar on standard error while that is a terminal."""
    console = Console(stderr=True)
    yield from track(items, description=title, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def progress(title: str, total: int, done: int) -> Iterator[Callable[[], None]]:
    """Something to call after each of `total` steps, of which `done` are done; draws a bar as `with_progress` does."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, completed=done)
        yield lambda: bar.advance(task)


def lines_with_progress(lines: Iterator[bytes], size: int | None, title: str) -> Iterator[bytes]:
    """The same lines of a file of `size` bytes, with a bar on standard error while that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=size)
        for line in lines:
            yield line
            progress.advance(task, len(line) + 1)
