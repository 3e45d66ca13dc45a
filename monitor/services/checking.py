"""The judging process of a sidecar that answers checks, composed.

    receiving ─▶ first stage ─┬─▶ the last word
    (main thread)  (a thread)  └─▶ a first word ─▶ second stage ─▶ the last word
                                                    (a thread)

A check that the edge judge is busy with holds up no other one's first word. One whose time is over is passed over.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from monitor.config import Settings
from monitor.domain.errors import GroundwatchError, JudgeUnavailable
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Unjudgeable
from monitor.domain.trace import Trace
from monitor.ingest.check_link import Asked, Ready, Said, Told, Unusable, Word
from monitor.services.logs import log_to_stderr

if TYPE_CHECKING:
    from monitor.inference.staged import Standing

_log = logging.getLogger(__name__)

# Behind the receiving process; before the dispatching one, for which nobody waits.
_NICENESS = 2


class Stages(Protocol):
    """Judges in two stages: `monitor.inference.staged.StagedCascade`."""

    @property
    def judges(self) -> tuple[JudgeIdentity, ...]:
        """Who judges, cheapest first."""

    @property
    def version(self) -> str:
        """Of all of them together."""

    def first(self, trace: Trace, *, deadline_seconds: float, so_far: "Callable[[Standing], None]") -> "Standing":
        """What the cheap judges say; `so_far` is told what some of them say while others are still at work."""

    def second(self, standing: "Standing", *, deadline_seconds: float) -> "Standing":
        """What it comes to with the dear one."""


def run_checks(settings: Settings, link: Connection) -> None:
    """The process's main: judge until nobody listens."""
    # Ctrl-C in a terminal reaches every process of the group; only the receiving one decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log_to_stderr(settings.telemetry.log_level)
    os.nice(_NICENESS)
    judge_checks(partial(_load, settings), link)


def _load(settings: Settings) -> "Stages":
    try:
        from monitor.inference.loading import load_staged  # noqa: PLC0415 - the receiving process carries no judges
    except ImportError as error:
        raise JudgeUnavailable(f"checks need the extra groundwatch[cpu] or groundwatch[gpu]: {error}") from error
    return load_staged(settings, screen_only=settings.check.judge == "screen")


def judge_checks(load: Callable[[], Stages], link: Connection) -> None:
    """Judge what comes over the pipe, until it ends; then end the process.

    Args:
        load: makes the judges; may raise GroundwatchError, which is told.
        link: the process's end of the pipe.
    """
    try:
        stages = load()
    except GroundwatchError as error:
        with suppress(OSError):
            link.send(Unusable(problem=str(error)))
        raise SystemExit(1) from None
    try:
        CheckService(stages, link).run()
    except (EOFError, OSError):
        # Not by way of the interpreter's end, which would wait for a judge that is at work.
        os._exit(0)


class CheckService:
    """Judges checks, in two threads.

    Args:
        stages: the judges.
        link: to the receiving process.
        clock: `time.monotonic`, which that process shares.
    """

    def __init__(self, stages: Stages, link: Connection, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stages = stages
        self._link = link
        self._clock = clock
        self._sending = threading.Lock()
        self._first: SimpleQueue[Asked] = SimpleQueue()
        self._second: SimpleQueue[tuple[Asked, Standing]] = SimpleQueue()

    def run(self) -> None:
        """Judge; raises EOFError or OSError once nobody listens."""
        threading.Thread(target=self._run_first, name="first-stage", daemon=True).start()
        threading.Thread(target=self._run_second, name="second-stage", daemon=True).start()
        versions = tuple(identity.version for identity in self._stages.judges)
        self._send(Ready(judges=versions, version=self._stages.version))
        while True:
            self._first.put(self._link.recv())

    def _run_first(self) -> None:
        while True:
            asked = self._first.get()
            standing = self._stage(asked, partial(self._stages.first, asked.trace, so_far=partial(self._say, asked)))
            if standing is not None and not standing.complete:
                self._second.put((asked, standing))

    def _run_second(self) -> None:
        while True:
            asked, so_far = self._second.get()
            self._stage(asked, partial(self._stages.second, so_far), last=True)

    def _stage(self, asked: Asked, judge: Callable[..., "Standing"], *, last: bool = False) -> "Standing | None":
        """Judge within what is left of the time, and tell; None where there is no more to come."""
        left = asked.until - self._clock()
        if left <= 0:
            self._send(Word(number=asked.number, said=None, last=True))
            return None
        try:
            standing = judge(deadline_seconds=left)
        except Exception as error:  # noqa: BLE001 - a defect in fusing or routing must cost this check, not the thread
            _log.exception("a check could not be judged")
            failed = CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=type(error).__name__)
            self._send(Word(number=asked.number, said=Said(outcome=failed, judge=None, complete=True), last=True))
            return None
        self._say(asked, standing, last=last or standing.complete)
        return standing

    def _say(self, asked: Asked, standing: "Standing", *, last: bool = False) -> None:
        said = Said(
            outcome=standing.outcome,
            judge=standing.decider,
            complete=standing.complete,
            version=self._stages.version,
        )
        self._send(Word(number=asked.number, said=said, last=last))

    def _send(self, message: Told) -> None:
        try:
            with self._sending:
                self._link.send(message)
        except OSError:
            os._exit(0)
