"""What waits for the spool's writer, and how those who wait are told."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from monitor.ingest.spool_records import Entry


@dataclass(kw_only=True, slots=True)
class Append:
    """Records that are to be durable together; `wake` is called once they are, or are not."""

    entries: Sequence[Entry]
    size: int
    wake: Callable[[], None] | None
    done: "Future[None]" = field(default_factory=Future)


@dataclass(kw_only=True, slots=True)
class Work:
    """What one transaction of the writer does."""

    appends: list[Append]
    aside: list[tuple[int, str]]
    acknowledged: int


def settle(appends: Sequence[Append], error: Exception | None) -> None:
    """Tell those who wait that their records are durable, or why not."""
    for append in appends:
        if not append.done.set_running_or_notify_cancel():
            continue
        if error is None:
            append.done.set_result(None)
        else:
            append.done.set_exception(error)
    # After all of them: who is woken takes the interpreter's lock, and the others would wait for it one by one.
    for wake in {append.wake for append in appends if append.wake is not None}:
        wake()
