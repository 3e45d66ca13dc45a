"""Other libraries' metrics and our own judge on the same rows and the same model server, one trace at a time."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.benchmarks import peer_driver
from monitor.benchmarks.asking import Result
from monitor.benchmarks.counting_proxy import Call, CountingProxy
from monitor.benchmarks.scores import as_trace, row_key
from monitor.domain.judgement import CouldNotJudge, Usage
from monitor.domain.trace import Trace
from monitor.embedded.processes import Child, ProcessFailed
from monitor.training.rows import Row

LIBRARIES = tuple(peer_driver.METRICS)

_POLL_SECONDS = 0.02
_START_SECONDS = 180.0
_IDLE_SECONDS = 600.0
_OK = 200

Tick = Callable[[], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came of one trace, and what it took.

    Attributes:
        score: higher means *hallucinated*, on the judge's own scale; None where there is none.
        error: why not.
        seconds: from question to answer, or to the deadline.
        calls: that the server was asked, in its own count.
        refused: of them, those that it did not answer with success.
    """

    id: str
    hallucinated: bool
    score: float | None
    error: str | None
    seconds: float
    calls: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def counted(row: Row, score: float | None, error: str | None, seconds: float, calls: Sequence[Call]) -> Answer:
    """One answer with the server's counts."""
    return Answer(
        id=row_key(row),
        hallucinated=row.hallucinated,
        score=score,
        error=error,
        seconds=seconds,
        calls=len(calls),
        refused=sum(call.status != _OK for call in calls),
        prompt_tokens=sum(call.prompt_tokens for call in calls),
        completion_tokens=sum(call.completion_tokens for call in calls),
    )


def our_answers(
    rows: Sequence[Row], ask: Callable[[Trace], Result], tick: Tick, *, proxy: CountingProxy | None
) -> list[Answer]:
    """Our judge, asked through the proxy; without one, what the judge itself says it read is counted."""
    answers = []
    for row in rows:
        if proxy is not None:
            proxy.take()
        began = time.perf_counter()
        result = ask(as_trace(row))
        seconds = time.perf_counter() - began
        if isinstance(result, CouldNotJudge):
            error = f"{result.reason.value}: {result.detail}"
            answers.append(counted(row, None, error, seconds, proxy.take() if proxy else []))
        else:
            calls = proxy.take() if proxy else [_as_call(result.usage, seconds)]
            answers.append(counted(row, result.raw_score, None, seconds, calls))
        tick()
    return answers


def _as_call(usage: Usage, seconds: float) -> Call:
    return Call(
        status=_OK,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        seconds=seconds,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """Another library.

    Attributes:
        library: one of `LIBRARIES`.
        python: an interpreter that has it.
        model: name of the model, for the server.
        max_tokens: longest reply that it may ask for.
        deadline_seconds: for one trace; what is later has no score.
        directory: for its files and its log.
    """

    library: str
    python: Path
    model: str
    max_tokens: int
    deadline_seconds: float
    directory: Path

    def answers(self, rows: Sequence[Row], proxy: CountingProxy, tick: Tick) -> tuple[str, list[Answer]]:
        """The library's version, and one answer a row; a process that dies or is late loses its row only.

        Raises:
            ProcessFailed: the library cannot be started, or the server does not come to rest.
        """
        found: list[Answer] = []
        version = ""
        while len(found) < len(rows):
            with self._started(proxy, run=len(found)) as running:
                version = running.version
                for row in rows[len(found) :]:
                    found.append(running.answer(row, proxy, self.deadline_seconds))
                    tick()
                    if running.ended:
                        break
        return version, found

    @contextmanager
    def _started(self, proxy: CountingProxy, *, run: int) -> Iterator["_Running"]:
        rows, answers = (self.directory / f"{self.library}-{run}.{kind}.jsonl" for kind in ("rows", "answers"))
        rows.touch()
        answers.touch()
        argv = [str(self.python), peer_driver.__file__, self.library, "--rows", str(rows), "--answers", str(answers)]
        argv += ["--url", proxy.url, "--model", self.model, "--max-tokens", str(self.max_tokens)]
        with Child(self.library, argv, log=self.directory / f"{self.library}.log") as child:
            try:
                child.wait_until(lambda: answers.read_bytes().endswith(b"\n"), deadline_seconds=_START_SECONDS)
            except ProcessFailed as failure:
                raise ProcessFailed(
                    f"{self.python} cannot run {self.library}: install groundwatch[bench], or name an interpreter "
                    f"that has it with --python\n{failure}"
                ) from None
            yield _Running(child, rows, answers)


class _Running:
    """One process of a library, ready to be asked."""

    def __init__(self, child: Child, rows: Path, answers: Path) -> None:
        self._child = child
        self._rows = rows
        self._answers = answers
        self._read = 1
        self.version = str(self._lines()[0]["version"])

    @property
    def ended(self) -> bool:
        """Whether it can be asked no more."""
        return self._child.returncode is not None

    def answer(self, row: Row, proxy: CountingProxy, deadline_seconds: float) -> Answer:
        """Ask about one row; the process is killed when it is late. The server is at rest afterwards."""
        proxy.take()
        began = time.monotonic()
        self._ask(row)
        told = self._wait(began + deadline_seconds)
        seconds = time.monotonic() - began
        if told is None:
            late = not self.ended
            self._child.kill()
        # What the server still works on for a client that has gone is that client's doing, and counted.
        if not proxy.wait_until_idle(deadline_seconds=_IDLE_SECONDS):
            raise ProcessFailed(f"the model server still worked after {_IDLE_SECONDS} s")
        if told is None:
            error = f"no score within {deadline_seconds:g} s" if late else "the process ended"
            return counted(row, None, error, seconds, proxy.take())
        # The library's share of supported statements, turned round.
        score = None if told["score"] is None else 1.0 - float(told["score"])
        return counted(row, score, told["error"], float(told["seconds"]), proxy.take())

    def _ask(self, row: Row) -> None:
        asked = {"question": row.question, "documents": list(row.documents), "answer": row.answer}
        with self._rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asked) + "\n")

    def _wait(self, ends: float) -> dict[str, Any] | None:
        while time.monotonic() < ends:
            # Looked at before the file: what it wrote before it ended counts.
            over = self.ended
            lines = self._lines()
            if len(lines) > self._read:
                self._read = len(lines)
                return lines[-1]
            if over:
                return None
            time.sleep(_POLL_SECONDS)
        return None

    def _lines(self) -> list[dict[str, Any]]:
        whole, _, _ = self._answers.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]
