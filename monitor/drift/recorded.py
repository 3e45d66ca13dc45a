"""Recorded verdicts as CSV: `event_time,segment,label[,p]`, other columns ignored."""

import csv
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from monitor.domain.errors import InvalidInput
from monitor.drift.replay import Row

LABEL = "label"
PROBABILITY = "p"
"""A calibrated probability that the answer is hallucinated."""

LABELS = {
    **dict.fromkeys(("1", "fail", "hallucinated", "true"), 1.0),
    **dict.fromkeys(("0", "pass", "faithful", "false"), 0.0),
}
"""What a label may say, in any case: whether the answer was hallucinated."""

_SHOWN = 40
_REMEMBERED = 100_000
"""Spellings of verdicts whose meaning is kept: labels and rounded probabilities repeat."""


def read_rows(lines: Iterable[str], *, verdict: str = LABEL) -> Iterator[Row]:
    """Read the rows one by one.

    Args:
        lines: the file's lines, the first of which names the columns, in any order.
        verdict: the column to watch, `LABEL` or `PROBABILITY`; the other one need not be there.

    Raises:
        InvalidInput: names line and column of the first value that cannot be read. An event time is ISO 8601;
            without a UTC offset it is taken as UTC.
    """
    reader = csv.reader(lines, strict=True)
    try:
        when, where, what = _columns(next(reader, []), verdict)
        last = max(when, where, what)
        read = _label if verdict == LABEL else _probability
        known: dict[str, float] = dict(LABELS) if verdict == LABEL else {}
        for cells in reader:
            if len(cells) <= last:
                if not cells:
                    continue
                raise InvalidInput(f"line {reader.line_num}: {len(cells)} columns; {last + 1} are needed")
            value = known.get(cells[what])
            if value is None:
                value = read(cells[what], reader.line_num)
                if len(known) < _REMEMBERED:
                    known[cells[what]] = value
            segment = cells[where] or _no_segment(reader.line_num)
            yield Row(_event_time(cells[when], reader.line_num), segment, value)
    except csv.Error as error:
        raise InvalidInput(f"line {reader.line_num}: not CSV: {error}") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"after line {reader.line_num}: not UTF-8: {error.reason}") from None


def _columns(header: list[str], verdict: str) -> tuple[int, int, int]:
    # A byte order mark is what spreadsheets put before the first name.
    names = [name.strip().removeprefix("\ufeff").lower() for name in header]
    wanted = ("event_time", "segment", verdict)
    missing = [name for name in wanted if name not in names]
    if missing:
        found = ", ".join(repr(name[:_SHOWN]) for name in names) or "nothing"
        raise InvalidInput(f"line 1: no column {missing[0]!r}; the header names {found}")
    when, where, what = (names.index(name) for name in wanted)
    return when, where, what


def _event_time(text: str, line: int) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise _bad(line, "event_time", text, "no ISO 8601 time") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _label(text: str, line: int) -> float:
    label = LABELS.get(text.strip().lower())
    if label is None:
        raise _bad(line, LABEL, text, f"none of {', '.join(LABELS)}")
    return label


def _probability(text: str, line: int) -> float:
    try:
        probability = float(text)
    except ValueError:
        raise _bad(line, PROBABILITY, text, "no number") from None
    if not 0 <= probability <= 1:  # also catches what is no number
        raise _bad(line, PROBABILITY, text, "not between 0 and 1")
    return probability


def _no_segment(line: int) -> str:
    raise _bad(line, "segment", "", "empty")


def _bad(line: int, column: str, text: str, problem: str) -> InvalidInput:
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return InvalidInput(f"line {line}, column {column}: {shown!r} is {problem}")
