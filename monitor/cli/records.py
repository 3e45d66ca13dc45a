"""Lines that commands read: labelled rows or `rag_trace.v1`, told apart by what they hold."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.errors import InvalidInput, InvalidTrace
from monitor.domain.trace import Trace
from monitor.domain.verdict import Label
from monitor.wire import MAX_TRACE_BYTES, decode_trace

MAX_LINE_BYTES = 2 * MAX_TRACE_BYTES
"""A longer line is dropped to its end and reported: it can be no trace, and must not fill the memory."""

_LABELS = {"PASS": Label.FAITHFUL, "FAIL": Label.HALLUCINATED, "faithful": Label.FAITHFUL} | {
    "hallucinated": Label.HALLUCINATED
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One readable line: its trace, and the label that came with it."""

    id: str
    trace: Trace
    expected: Label | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BadLine:
    """One line that is no trace: what is wrong with it, and its id where one could be read."""

    id: str | None
    field: str
    problem: str
    reason: DeadLetterReason = DeadLetterReason.INVALID


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes; `-` is standard input.

    Raises:
        InvalidInput: it cannot be opened.
    """
    if str(path) == "-":
        import sys  # noqa: PLC0415 - looked up when asked, so that a test's replacement is seen

        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None
    with file:
        yield file


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """A file to write text to; `-` is standard output.

    Raises:
        InvalidInput: it cannot be opened.
    """
    if str(path) == "-":
        import sys  # noqa: PLC0415 - looked up when asked, so that a test's replacement is seen

        yield sys.stdout
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None
    with file:
        yield file


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """Each line without its end, cut just past `MAX_LINE_BYTES`."""
    while line := file.readline(MAX_LINE_BYTES + 2):
        whole = line
        while whole and not whole.endswith(b"\n"):
            whole = file.readline(MAX_LINE_BYTES)
        yield line.rstrip(b"\r\n")


def read_record(line: bytes, *, number: int, now: datetime) -> Record | BadLine:
    """Read one line.

    A labelled row has `question`, `context` (a list of texts, or one text) and `answer`, and may have `id` and
    `label` (PASS or FAIL); anything else is taken for a `rag_trace.v1`, which may carry `label` too.

    Args:
        line: UTF-8 JSON.
        number: the line's number, its id where it has none.
        now: the reader's clock, aware.
    """
    if len(line) > MAX_LINE_BYTES:
        return BadLine(
            id=None, field="$", problem=f"longer than {MAX_LINE_BYTES} bytes", reason=DeadLetterReason.TOO_LARGE
        )
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadLine(id=None, field="$", problem=f"not JSON: {error}", reason=DeadLetterReason.NOT_JSON)
    if not isinstance(value, dict):
        return BadLine(id=None, field="$", problem="not a JSON object")
    named = value.get("id", value.get("trace_id"))
    name = str(named) if isinstance(named, str | int) else None
    try:
        message = _as_message(value, number, now) if "context" in value else line
        trace = decode_trace(message, now=now)
        expected = _expected(value.get("label"))
    except InvalidTrace as error:
        return BadLine(id=name, field=error.field, problem=error.problem, reason=error.reason)
    return Record(id=name if name is not None else str(number), trace=trace, expected=expected)


def _as_message(row: dict[str, Any], number: int, now: datetime) -> bytes:
    context = [row["context"]] if isinstance(row["context"], str) else row["context"]
    if not isinstance(context, list):
        raise InvalidTrace("context", "must be a text or a list of texts")
    message = {
        "trace_id": f"line-{number}",
        "event_time": now.astimezone(UTC).isoformat(),
        "service": "offline",
        "question": row.get("question") or "",
        "documents": [{"id": str(place), "text": text} for place, text in enumerate(context)],
        "answer": row.get("answer"),
    }
    try:
        return json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidTrace("$", "holds a lone surrogate, which is no text") from None


def _expected(label: Any) -> Label | None:
    if label is None:
        return None
    if not isinstance(label, str) or label not in _LABELS:
        raise InvalidTrace("label", f"{label!r}; PASS, FAIL, faithful or hallucinated are allowed")
    return _LABELS[label]
