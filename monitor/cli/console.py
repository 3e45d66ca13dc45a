"""How tables look, and how wide they are."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table

Item = TypeVar("Item")

_PIPE_WIDTH = 200


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
