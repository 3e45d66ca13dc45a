"""The receiving process's side of dispatching: starts the process that does it, listens to it, replaces it.

Python runs one thread at a time. A caller must not wait for the assembling of other people's spans, nor for Kafka's
client: they have a process of their own, which may be slow, or die, and costs no caller anything.
"""

import logging
import multiprocessing
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from monitor.ingest.counters import IngestCounters
from monitor.ingest.dispatch_link import (
    FEEDBACK,
    NOTHING_YET,
    TRACES,
    Acknowledged,
    Counted,
    Damaged,
    DispatchState,
    SetAside,
    Stop,
    Told,
)
from monitor.ingest.forward import Backoff, ForwardState, KafkaState
from monitor.ingest.spool import Spool

_log = logging.getLogger(__name__)

_SPARE_SECONDS = 10.0
# Spawned, not forked: the parent has threads, and their locks would be copied as they are.
_PROCESSES = multiprocessing.get_context("spawn")


class Dispatcher:
    """Keeps one dispatching process running.

    Args:
        target: what the process runs, with its end of the pipe; must be picklable, and end when the pipe does.
        spools: that it empties, by name.
        counters: that it counts traces in.
        feedback_counters: that it counts feedback in; `counters` where there are none.
        backoff: how long to wait before a process that ended is replaced.
    """

    def __init__(
        self,
        target: Callable[[Connection], None],
        *,
        spools: Mapping[str, Spool],
        counters: IngestCounters,
        feedback_counters: IngestCounters | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._target = target
        self._spools = spools
        self._counters = {TRACES: counters, FEEDBACK: feedback_counters or counters}
        self._backoff = backoff or Backoff()
        self._state = NOTHING_YET
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._drain_seconds = 0.0
        self._link: Connection | None = None
        self._process: BaseProcess | None = None
        self._restarts = 0
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    @property
    def state(self) -> DispatchState:
        """What it last said of itself."""
        return self._state

    @property
    def restarts(self) -> int:
        """How often the process ended and was replaced."""
        return self._restarts

    @property
    def pid(self) -> int | None:
        """Its process, while there is one."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, drain_seconds: float) -> None:
        """Let it send what can be sent for so long, then end it. The rest stays in the spools."""
        with self._lock:
            self._drain_seconds = drain_seconds
            self._stopping.set()
            if self._link is not None:
                self._tell_to_stop(self._link)
        self._thread.join(drain_seconds + _SPARE_SECONDS)
        if self._process is not None and self._process.is_alive():
            _log.warning("the dispatching process did not end in time, and is killed")
            self._process.kill()
            self._thread.join(_SPARE_SECONDS)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                heard = self._one_life()
                ended = f"ended (exit code {self._process.exitcode if self._process else None})"
            except OSError as error:  # no room for a process, for now
                heard, ended = False, f"cannot be started ({error})"
            if self._stopping.is_set():
                return
            self._restarts += 1
            failures = 1 if heard else failures + 1
            problem = f"the dispatching process {ended}; what it had not sent waits on disk"
            _log.error(problem)
            down = ForwardState(kafka=KafkaState.DOWN, in_flight=0, problem=problem)
            self._state = replace(self._state, kafka=dict.fromkeys(self._state.kafka, down))
            self._stopping.wait(self._backoff.seconds(failures))

    def _one_life(self) -> bool:
        """Run one process to its end; whether it ever said how it stands."""
        ours, theirs = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(target=self._target, args=(theirs,), name="dispatch", daemon=True)
        self._process.start()
        # Only the child may hold its end, or its death would not end the pipe.
        theirs.close()
        with self._lock:
            self._link = ours
            if self._stopping.is_set():
                self._tell_to_stop(ours)
        heard = False
        try:
            while True:
                message: Told = ours.recv()
                heard |= isinstance(message, DispatchState)
                try:
                    self._hear(message)
                except Exception:  # noqa: BLE001 - a defect must not end the only thread that hears of what was sent
                    _log.exception("a word of the dispatching process was not understood")
        except (EOFError, OSError):
            self._process.join()
        except Exception:  # noqa: BLE001 - its successor may say better, and what was acknowledged must be sent
            _log.exception("the dispatching process is not understood, and is ended")
            self._process.kill()
            self._process.join()
        finally:
            with self._lock:
                self._link = None
            ours.close()
        return heard

    def _tell_to_stop(self, link: Connection) -> None:
        try:
            link.send(Stop(self._drain_seconds))
        except OSError:
            _log.warning("the dispatching process had ended before it was told to")

    def _hear(self, message: Told) -> None:
        match message:
            case Acknowledged(spool=name, position=position):
                self._spools[name].acknowledge(position)
            case SetAside(spool=name, position=position, reason=reason):
                self._spools[name].set_aside(position, reason)
            case Damaged(spool=name, inode=inode):
                self._spools[name].report_damage(inode)
            case Counted(subject=subject, method=method, arguments=arguments, named=named):
                getattr(self._counters[subject], method)(*arguments, **named)
            case DispatchState():
                self._state = message
