"""Asking judges about labelled rows: those whose answer is not kept yet, one by one or several at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from monitor.benchmarks.scores import Ask, ScoreFile, as_trace, scored
from monitor.domain.errors import JudgeUnavailable
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Opinion, Unjudgeable
from monitor.domain.trace import Trace
from monitor.training.rows import Row

Result = Opinion | CouldNotJudge
AskAsync = Callable[[Trace], Awaitable[Result]]
Tick = Callable[[], None]

MOST_ABSENCES = 10
"""A judge that was away for so many rows in a row will not come back for the next: the run ends with a message."""


class Panelist(Protocol):
    """A judge of a benchmark.

    Attributes:
        name: what tables call it, no two alike.
        identity: who it is, exactly.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see the class

    @property
    def identity(self) -> JudgeIdentity: ...  # noqa: D102 - see the class

    def ask_now(self, trace: Trace) -> Result:
        """Ask about one trace and wait."""

    def answer(self, rows: Sequence[Row], kept: ScoreFile, tick: Tick) -> None:
        """Have the file keep a score for every row; `tick` is called after each row that was asked about.

        Raises:
            JudgeUnavailable: the judge went away. What it said before is kept.
        """


@dataclass(frozen=True, kw_only=True)
class OneByOne:
    """A judge in this process, asked about one row at a time."""

    name: str
    identity: JudgeIdentity
    ask: Ask

    def ask_now(self, trace: Trace) -> Result:
        """See `Panelist`."""
        return self.ask(trace)

    def answer(self, rows: Sequence[Row], kept: ScoreFile, tick: Tick) -> None:
        """See `Panelist`."""
        absences = _Absences(self.name)
        for row in rows:
            began = time.perf_counter()
            result = self.ask(as_trace(row))
            kept.keep(self.identity, row, scored(result, time.perf_counter() - began))
            tick()
            absences.count(result)


@dataclass(frozen=True, kw_only=True)
class SeveralAtOnce:
    """A judge behind a server: `concurrency` rows are under way at any time."""

    name: str
    identity: JudgeIdentity
    ask: AskAsync
    concurrency: int
    runner: asyncio.Runner

    def ask_now(self, trace: Trace) -> Result:
        """See `Panelist`."""
        return self.runner.run(self._ask(trace))

    async def _ask(self, trace: Trace) -> Result:
        return await self.ask(trace)

    def answer(self, rows: Sequence[Row], kept: ScoreFile, tick: Tick) -> None:
        """See `Panelist`. What is under way at an interruption is not kept."""
        self.runner.run(self._answer(rows, kept, tick))

    async def _answer(self, rows: Sequence[Row], kept: ScoreFile, tick: Tick) -> None:
        waiting = iter(rows)
        absences = _Absences(self.name)
        before = time.perf_counter()

        async def work() -> None:
            nonlocal before
            for row in waiting:
                began = time.perf_counter()
                result = await self.ask(as_trace(row))
                ended = time.perf_counter()
                kept.keep(self.identity, row, scored(result, ended - began, ended - before))
                before = ended
                tick()
                absences.count(result)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.concurrency, len(rows))):
                    group.create_task(work())
        except* JudgeUnavailable as gone:
            raise gone.exceptions[0] from None


class _Absences:
    """Counts failures to reach a judge that follow each other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def count(self, result: Result) -> None:
        away = isinstance(result, CouldNotJudge) and result.reason is Unjudgeable.JUDGE_UNAVAILABLE
        self._count = self._count + 1 if away else 0
        if isinstance(result, CouldNotJudge) and self._count == MOST_ABSENCES:
            raise JudgeUnavailable(f"{self._name} was away for {self._count} rows in a row: {result.detail}")


def missing(panelist: Panelist, rows: Sequence[Row], kept: ScoreFile) -> list[Row]:
    """The rows that the judge must still be asked about."""
    return [row for row in rows if kept.known(panelist.identity, row) is None]
