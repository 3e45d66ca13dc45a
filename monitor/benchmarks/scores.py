"""Raw scores of labelled rows, kept in a file so that a slow judge is asked once, and can be asked in instalments."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from monitor.domain.errors import InvalidInput
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Opinion, Unjudgeable
from monitor.domain.trace import Document, Trace
from monitor.training.rows import Row

Ask = Callable[[Trace], Opinion | CouldNotJudge]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One judge's word on one row, and what it took.

    Attributes:
        score: raw log-odds of *hallucinated*; None where it could not judge.
        reason: why not, as `Unjudgeable` names it; None where it could.
        seconds: wall time from the question to the answer.
        busy_seconds: wall time that went by between this answer and the one before it, where several questions are
            under way at once; equal to `seconds` where they are asked one by one. Their sum is what all took.
    """

    score: float | None
    reason: str | None = None
    seconds: float = 0.0
    busy_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


_FIELDS = frozenset(field.name for field in fields(Score))


class ScoreFile:
    """Scores by judge version and row, in JSON lines that are only appended to.

        {"judge": "gguf@…", "id": "<file>/<row id>", "score": 1.5, "reason": null, "seconds": 0.4, …}

    A judge's version covers its weights and its prompt, so that no score outlives what it was made by. A last line
    without its end, which an interruption leaves behind, is cut off. A row that a judge was not there for
    (`judge_unavailable`) is asked about again.

    Raises:
        InvalidInput: the file exists and is none.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._scores: dict[tuple[str, str], Score] = {}
        if path is not None and path.is_file():
            self._read(path)

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = json.loads(line)
                score = Score(**{name: value for name, value in entry.items() if name in _FIELDS})
                if score.reason != Unjudgeable.JUDGE_UNAVAILABLE:
                    self._scores[entry["judge"], entry["id"]] = score
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidInput(f"{path}, line {number}: not a score: {error!r}") from None
        if len(whole) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))

    def known(self, identity: JudgeIdentity, row: Row) -> Score | None:
        """The row's score by that judge, where the file has it."""
        return self._scores.get((identity.version, row_key(row)))

    def keep(self, identity: JudgeIdentity, row: Row, score: Score) -> None:
        """Remember one score, and write it at once."""
        self._scores[identity.version, row_key(row)] = score
        self._append({"judge": identity.version, "id": row_key(row), **asdict(score)})

    def _append(self, entry: Mapping[str, object]) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


def row_key(row: Row) -> str:
    """A row's name among all files: ids are unique within a file only."""
    return f"{row.file}/{row.id}"


def scored(result: Opinion | CouldNotJudge, seconds: float, busy_seconds: float | None = None) -> Score:
    """A judge's word as it is kept; it was asked alone where `busy_seconds` is None."""
    took, busy = round(seconds, 6), round(seconds if busy_seconds is None else busy_seconds, 6)
    if isinstance(result, CouldNotJudge):
        return Score(score=None, reason=result.reason.value, seconds=took, busy_seconds=busy)
    if not math.isfinite(result.raw_score):
        return Score(score=None, reason=Unjudgeable.JUDGE_ERROR.value, seconds=took, busy_seconds=busy)
    return Score(score=result.raw_score, seconds=took, busy_seconds=busy, **asdict(result.usage))


def as_trace(row: Row) -> Trace:
    """A labelled row as a trace of an imaginary service."""
    return Trace(
        trace_id=row.id,
        event_time=datetime(2000, 1, 1, tzinfo=UTC),
        tenant="default",
        service="offline",
        environment="calibration",
        question=row.question,
        documents=tuple(Document(id=str(place), text=text) for place, text in enumerate(row.documents)),
        answer=row.answer,
    )
