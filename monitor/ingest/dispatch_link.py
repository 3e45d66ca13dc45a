"""What the process that dispatches tells the one that receives, over a pipe between the two."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

from monitor.ingest.assembler import AssemblyState
from monitor.ingest.counters import Denial, Drop, Refusal
from monitor.ingest.forward import ForwardState, KafkaState
from monitor.ingest.spool_records import SpoolState

TRACES, FEEDBACK = "traces", "feedback"
"""What is counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Acknowledged:
    """Nothing up to this position of a spool is needed any more."""

    spool: str
    position: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SetAside:
    """A record that cannot be sent."""

    spool: str
    position: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Damaged:
    """The file of a spool is."""

    spool: str
    inode: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """A call of one of `IngestCounters`' methods; `subject` is what is counted."""

    subject: str = TRACES
    method: str
    arguments: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatchState:
    """How dispatching stands; counts are since its process started.

    Attributes:
        kafka: by the spool that is forwarded.
        assembly: what becomes of spans.
        assembled: the spool of assembled traces; None before the first word of it.
    """

    kafka: Mapping[str, ForwardState]
    assembly: AssemblyState
    assembled: SpoolState | None


NOTHING_YET = DispatchState(
    kafka={"traces": ForwardState(kafka=KafkaState.UNTRIED, in_flight=0, problem=None)},
    assembly=AssemblyState(open=0, waiting_bytes=0, assembled=0, not_rag=0, late_spans=0, completed={}),
    assembled=None,
)

Told = Acknowledged | SetAside | Damaged | Counted | DispatchState


@dataclass(frozen=True, slots=True)
class Stop:
    """The one message in the other direction: send what can be sent within so many seconds, then end."""

    drain_seconds: float


class Outbox:
    """The sending end, for several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: Told) -> None:
        """Tell it; raises OSError once nobody listens."""
        with self._lock:
            self._connection.send(message)


class CountsOf:
    """The sending end for counts of something else than traces."""

    def __init__(self, subject: str, outbox: Outbox) -> None:
        self._subject = subject
        self._outbox = outbox

    def send(self, counted: Counted) -> None:
        """Tell it, as a count of this subject."""
        self._outbox.send(replace(counted, subject=self._subject))


class RelayedCounters:
    """`IngestCounters` that count in the other process."""

    def __init__(self, outbox: Outbox | CountsOf) -> None:
        self._outbox = outbox

    def accepted(self, count: int) -> None:
        """Relay."""
        self._outbox.send(Counted(method="accepted", arguments=(count,)))

    def refused(self, reason: Refusal, *, field: str | None = None) -> None:
        """Relay."""
        self._outbox.send(Counted(method="refused", arguments=(reason,), named={"field": field}))

    def denied(self, cause: Denial) -> None:
        """Relay."""
        self._outbox.send(Counted(method="denied", arguments=(cause,)))

    def forwarded(self, count: int) -> None:
        """Relay."""
        self._outbox.send(Counted(method="forwarded", arguments=(count,)))

    def set_aside(self, count: int) -> None:
        """Relay."""
        self._outbox.send(Counted(method="set_aside", arguments=(count,)))

    def dropped(self, reason: Drop, count: int) -> None:
        """Relay."""
        self._outbox.send(Counted(method="dropped", arguments=(reason, count)))

    def redacted(self, rule: str, count: int) -> None:
        """Relay."""
        self._outbox.send(Counted(method="redacted", arguments=(rule, count)))

    def retried(self) -> None:
        """Relay."""
        self._outbox.send(Counted(method="retried"))
