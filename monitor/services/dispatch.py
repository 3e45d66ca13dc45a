"""The dispatching process of a sidecar, composed: spans to traces, and traces to Kafka."""

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from monitor.config import Settings
from monitor.domain.errors import SpoolUnavailable
from monitor.ingest.ageing import AgeLimit
from monitor.ingest.assembler import Assembler
from monitor.ingest.counters import IngestCounters
from monitor.ingest.dispatch_link import (
    FEEDBACK,
    TRACES,
    Acknowledged,
    CountsOf,
    Damaged,
    DispatchState,
    Outbox,
    RelayedCounters,
    SetAside,
    Stop,
)
from monitor.ingest.forward import Forwarder
from monitor.ingest.spool import Spool
from monitor.ingest.spool_source import SpoolSource
from monitor.ingest.spool_tail import SpoolTail
from monitor.services.logs import log_to_stderr
from monitor.services.treatment import treatment
from monitor.spans.collecting import Patience
from monitor.streaming.producer import Producer
from monitor.streaming.topics import ensure_topics

_log = logging.getLogger(__name__)

EXPORTS, ASSEMBLED = "exports", "assembled"
"""Spools beside those of feedback and of traces that came as JSON: of OTLP exports, and of what they made whole."""

_TICK_SECONDS = 0.25
_CLOSE_SECONDS = 2.0
# Behind the receiving process, whose callers wait.
_NICENESS = 19


def spool_directories(settings: Settings) -> Mapping[str, Path]:
    """Where each spool is."""
    root = settings.sidecar.spool_directory
    return {TRACES: root, EXPORTS: root / "spans", ASSEMBLED: root / "assembled", FEEDBACK: root / "feedback"}


def open_spool(settings: Settings, name: str) -> Spool:
    """The writing end of a spool.

    Raises:
        SpoolUnavailable: its directory is in use or cannot be written.
    """
    sidecar = settings.sidecar
    return Spool(spool_directories(settings)[name], max_bytes=sidecar.spool_max_bytes, sync=sidecar.spool_sync)


def run_dispatch(settings: Settings, link: Connection) -> None:
    """The process's main: dispatch until told to stop, or until nobody listens."""
    # Ctrl-C in a terminal reaches every process of the group; only the receiving one decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log_to_stderr(settings.telemetry.log_level)
    os.nice(_NICENESS)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    outbox = Outbox(link)
    try:
        with _dispatching(settings, outbox) as dispatching:
            outbox.send(dispatching.state)
            while not (stop := _told_to_stop(link)):
                outbox.send(dispatching.state)
                dispatching.checkpoint()
            dispatching.drain(stop.drain_seconds)
            outbox.send(dispatching.state)
    except SpoolUnavailable as error:
        _log.error("dispatching: %s", error)
        raise SystemExit(1) from None
    except (EOFError, OSError):
        # The receiving process is gone. All is on disk; the next one must find the spool of assembled traces free.
        os._exit(1)


def _told_to_stop(link: Connection) -> Stop | None:
    message = link.recv() if link.poll(_TICK_SECONDS) else None
    return message if isinstance(message, Stop) else None


@dataclass(frozen=True, kw_only=True)
class _Dispatching:
    assembler: Assembler
    forwarders: Mapping[str, Forwarder]
    assembled: Spool
    tails: Mapping[str, SpoolTail]

    @property
    def state(self) -> DispatchState:
        return DispatchState(
            kafka={name: forwarder.state() for name, forwarder in self.forwarders.items()},
            assembly=self.assembler.state,
            assembled=self.assembled.state(),
        )

    def checkpoint(self) -> None:
        for tail in self.tails.values():
            try:
                tail.checkpoint()
            except SpoolUnavailable as error:
                _log.warning("%s", error)

    def drain(self, seconds: float) -> None:
        self.assembler.stop()
        # Side by side: they share the time that is left.
        with ThreadPoolExecutor(len(self.forwarders)) as threads:
            for forwarder in self.forwarders.values():
                threads.submit(forwarder.stop, drain_seconds=seconds)


@contextmanager
def _dispatching(settings: Settings, outbox: Outbox) -> Iterator[_Dispatching]:
    with ExitStack() as closing:
        assembled = open_spool(settings, ASSEMBLED)
        closing.callback(assembled.close)
        tails = {name: _tail(settings, name, outbox) for name in (TRACES, EXPORTS, FEEDBACK)}
        producer = Producer(settings.kafka)
        closing.callback(producer.close, timeout=_CLOSE_SECONDS)
        counters = RelayedCounters(outbox)
        max_age = _max_age(settings)

        def forwarding(what: str, source: SpoolSource, topic: str, counters: IngestCounters) -> Forwarder:
            return Forwarder(
                source,
                producer,
                topic=topic,
                counters=counters,
                age_limit=AgeLimit(source, what, max_age=max_age, counters=counters),
                prepare=partial(ensure_topics, settings.kafka, [topic]),
            )

        kafka = settings.kafka
        feedback_counters = RelayedCounters(CountsOf(FEEDBACK, outbox))
        forwarders = {
            TRACES: forwarding("traces", tails[TRACES], kafka.traces_topic, counters),
            ASSEMBLED: forwarding("traces", assembled, kafka.traces_topic, counters),
            FEEDBACK: forwarding("pieces of feedback", tails[FEEDBACK], kafka.feedback_topic, feedback_counters),
        }
        assembler = Assembler(
            tails[EXPORTS],
            assembled,
            counters=counters,
            patience=_patience(settings),
            max_bytes=settings.sidecar.span_memory_bytes,
            treatment=treatment(settings, counters),
            age_limit=AgeLimit(tails[EXPORTS], "OTLP exports", max_age=max_age, counters=counters),
        )
        for forwarder in forwarders.values():
            forwarder.start()
        assembler.start()
        yield _Dispatching(assembler=assembler, forwarders=forwarders, assembled=assembled, tails=tails)


def _tail(settings: Settings, name: str, outbox: Outbox) -> SpoolTail:
    return SpoolTail(
        spool_directories(settings)[name],
        acknowledge=lambda position: outbox.send(Acknowledged(spool=name, position=position)),
        set_aside=lambda position, reason: outbox.send(SetAside(spool=name, position=position, reason=reason)),
        damaged=lambda inode: outbox.send(Damaged(spool=name, inode=inode)),
    )


def _max_age(settings: Settings) -> timedelta | None:
    """How long what is on disk may wait; None for ever."""
    seconds = settings.sidecar.spool_max_age_seconds
    return None if seconds is None else timedelta(seconds=seconds)


def _patience(settings: Settings) -> Patience:
    sidecar = settings.sidecar
    return Patience(
        settle=sidecar.span_settle_seconds, idle=sidecar.span_idle_seconds, limit=sidecar.span_limit_seconds
    )
