"""The receiving process's side of checks: keeps one judging process running, and waits for it no longer than asked.

Judging takes processors. It has a process of its own, which may be slow, hang or die, and costs no caller more than the
time that it gave.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection

from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.domain.trace import Trace
from monitor.domain.verdict import Verdict
from monitor.ingest.check_link import Said
from monitor.ingest.check_process import CheckProcess
from monitor.ingest.counters import Refusal
from monitor.ingest.forward import Backoff
from monitor.ingest.refused import RequestRefused

_log = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
"""A judging process that has not done with a check so long after its time hangs: no prompt is read for so long."""

LOADING_SECONDS = 600.0
"""Within which a process must have loaded its judges: large models come from slow disks, but not for ever."""

_RETRY_SECONDS = 1
_END_SECONDS = 5.0


class Checking(StrEnum):
    """How checking stands."""

    OFF = "off"
    STARTING = "starting"
    READY = "ready"
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckingState:
    """How checking stands now.

    Attributes:
        problem: why there are no judges, where there should be.
        judges: their versions, cheapest first; empty until the first are there.
        version: of all of them together; None likewise.
        waiting: checks that they have not done with.
        restarts: how often their process ended and was replaced.
    """

    state: Checking
    problem: str | None = None
    judges: tuple[str, ...] = ()
    version: str | None = None
    waiting: int = 0
    restarts: int = 0


class Checker:
    """Puts checks to one judging process after another.

    Args:
        target: what the process runs; see `CheckProcess`.
        most_waiting: checks that it has not done with, at most.
        loading_seconds: within which the process must have loaded its judges.
        patience_seconds: after a check's time, within which the process must have done with it.
        backoff: how long to wait before a process that ended is replaced.
        clock: `time.monotonic`, which the process shares.
    """

    def __init__(
        self,
        target: Callable[[Connection], None],
        *,
        most_waiting: int,
        loading_seconds: float = LOADING_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._most = most_waiting
        self._loading = loading_seconds
        self._patience = patience_seconds
        self._backoff = backoff or Backoff(limit_seconds=60.0)
        self._clock = clock
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._problem: str | None = None
        self._restarts = 0
        self._process: CheckProcess | None = None
        self._thread = threading.Thread(target=self._run, name="checker", daemon=True)

    @property
    def state(self) -> CheckingState:
        """How it stands."""
        process = self._process
        ready = process.ready if process else None
        return CheckingState(
            state=Checking.READY if ready else Checking.PROBLEM if self._problem else Checking.STARTING,
            problem=None if ready else self._problem,
            judges=ready.judges if ready else (),
            version=ready.version if ready else None,
            waiting=process.waiting if process else 0,
            restarts=self._restarts,
        )

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Begin: the process is there, its judges are not yet."""
        self._begin()
        self._thread.start()

    def stop(self) -> None:
        """End the process; checks under way are over."""
        with self._lock:
            self._stopping.set()
            if self._process:
                self._process.stop()
        self._thread.join(_END_SECONDS)

    async def check(self, trace: Trace, *, until: float, owner: str | None = None) -> Said | None:
        """What the judges have said when they are done or the time is over, whichever comes first.

        Args:
            trace: to be judged.
            until: on the clock, the end of the time.
            owner: the tenant that the places are shared out to; None where nobody is told from others.

        Returns:
            Their word, which may be incomplete; None where they said nothing in time.

        Raises:
            RequestRefused: 503, too many checks wait, or too many of this owner.
        """
        process = self._process
        if process is None or (process.ready is None and self._problem):
            return _unavailable(self._problem)
        if (left := until - self._clock()) <= 0:
            return None
        pending = process.ask(trace, until, owner)
        if pending is None:
            raise self._too_many(process.waiting)
        try:
            await asyncio.wait_for(pending.over, left)
        except TimeoutError:
            process.give_up(pending, patience_seconds=self._patience)
            # A judge that failed while another one is still at work is not the end of it.
            return pending.said if pending.said and isinstance(pending.said.outcome, Verdict) else None
        if pending.said is None and self._clock() < until:
            # Over before its time and without a word: the process died of it, or beside it.
            return _unavailable("the judging process ended")
        return pending.said

    def _too_many(self, waiting: int) -> RequestRefused:
        if waiting < self._most:
            problem = "as many checks of this tenant wait for the judges as there are places left for others"
            return RequestRefused(503, Refusal.OVER_SHARE, problem, retry_seconds=_RETRY_SECONDS)
        problem = f"{self._most} checks wait for the judges"
        return RequestRefused(503, Refusal.BUSY, problem, retry_seconds=_RETRY_SECONDS)

    def _run(self) -> None:
        failures = 0
        process = self._process
        while not self._stopping.is_set():
            if process is not None:
                process.run()
                if self._stopping.is_set():
                    return
                self._mourn(process)
            failures = 1 if process is not None and process.ready else failures + 1
            if self._stopping.wait(self._backoff.seconds(failures)):
                return
            process = self._begin_anew()

    def _begin(self) -> CheckProcess | None:
        with self._lock:  # or one could be started that nobody ends
            if not self._stopping.is_set():
                self._process = CheckProcess(self._target, most_waiting=self._most, loading_seconds=self._loading)
            return self._process

    def _begin_anew(self) -> CheckProcess | None:
        """Or nothing, where the machine has no room for a process: it is tried again."""
        try:
            return self._begin()
        except OSError as error:
            self._problem = f"the judging process cannot be started: {error}"
            _log.error("checks: %s", self._problem)
            return None

    def _mourn(self, process: CheckProcess) -> None:
        self._problem = process.problem or f"the judging process ended (exit code {process.exit_code})"
        self._restarts += 1
        self._process = None
        _log.error("checks: %s; it is started anew", self._problem)


def _unavailable(problem: str | None) -> Said:
    reason = CouldNotJudge(reason=Unjudgeable.JUDGE_UNAVAILABLE, detail=problem or "")
    return Said(outcome=reason, judge=None, complete=True)
