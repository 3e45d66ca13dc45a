"""From OTLP exports on disk to traces on disk: one thread that collects spans until their traces are whole.

The exports stay in their spool until every trace that has a span in them was handed on. So what was acknowledged
survives a restart: the exports are read again, and a trace that had been handed on before is a duplicate by its id,
which the ledger counts once.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from monitor.domain.errors import InvalidMessage, InvalidTrace, SpoolFull, SpoolUnavailable
from monitor.domain.trace import Trace
from monitor.ingest.ageing import AgeLimit
from monitor.ingest.counters import IngestCounters, Refusal
from monitor.ingest.otlp_intake import read_key
from monitor.ingest.spool import Spool
from monitor.ingest.spool_records import Entry, Spooled
from monitor.ingest.spool_source import SpoolSource
from monitor.ingest.storing import trace_entry
from monitor.ingest.treatment import NoTreatment, Treatment
from monitor.otlp import decode
from monitor.spans.assembling import Assembled, assemble
from monitor.spans.collecting import Completed, Patience, SpanCollector
from monitor.spans.tracestate import sampling_probability
from monitor.wire import decode_trace

_log = logging.getLogger(__name__)

_READ_RECORDS = 50
_TICK_SECONDS = 0.25
_SPOOL_SECONDS = 30.0
_TOGETHER_BYTES = 8 * 1024 * 1024
_MOST_DOCUMENTS = 100
_LONGEST_TAG = 200
_LONGEST_NAME = 64
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
PROBLEMS = "groundwatch.problems"
"""The tag that says what the spans did not tell."""

_NOBODY = ""
_ENVIRONMENTS = ("deployment.environment.name", "deployment.environment")


@dataclass(frozen=True, kw_only=True, slots=True)
class AssemblyState:
    """What the assembler is about, since the process started.

    Attributes:
        open: traces whose spans are waited for.
        waiting_bytes: of those spans, as they were sent.
        assembled: RAG traces that were handed on.
        not_rag: traces of which no span is part of one.
        late_spans: came after their trace was completed.
        completed: traces by why they were waited for no longer; see `Completion`.
    """

    open: int
    waiting_bytes: int
    assembled: int
    not_rag: int
    late_spans: int
    completed: Mapping[str, int]


class Assembler:
    """Reads exports, hands on traces.

    Args:
        exports: spool of OTLP exports, whose keys say how they are encoded.
        traces: spool that traces are handed on to.
        counters: told of traces that were handed on, or broke the contract.
        patience: how long to wait for the spans of a trace.
        max_bytes: of spans in memory.
        treatment: what is done to a trace before it is handed on.
        age_limit: of the exports; none when absent.
        clock: seconds that never go back.
        now: aware wall clock.
    """

    def __init__(
        self,
        exports: SpoolSource,
        traces: Spool,
        *,
        counters: IngestCounters,
        patience: Patience,
        max_bytes: int,
        treatment: Treatment | None = None,
        age_limit: AgeLimit | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._exports = exports
        self._traces = traces
        self._counters = counters
        self._collector = SpanCollector(patience, max_bytes=max_bytes)
        self._treatment = treatment or NoTreatment()
        self._age_limit = age_limit
        self._clock = clock
        self._now = now
        self._cursor = exports.acknowledged
        self._ready: list[Entry] = []
        self._assembled = 0
        self._not_rag = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="assembler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what waits is read again by the next one."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_SPOOL_SECONDS)

    @property
    def state(self) -> AssemblyState:
        """What it is about."""
        return AssemblyState(
            open=self._collector.open,
            waiting_bytes=self._collector.waiting_bytes,
            assembled=self._assembled,
            not_rag=self._not_rag,
            late_spans=self._collector.late,
            completed=self._collector.completed,
        )

    def step(self) -> bool:
        """Read what has come, and hand on what is whole; whether there may be more to read at once.

        Raises:
            SpoolFull, SpoolUnavailable: one of the spools; nothing is lost, step again.
        """
        self._pass_over_old()
        records = self._exports.read(self._cursor, limit=_READ_RECORDS) if not self._ready else []
        for record in records:
            self._collect(record)
            self._cursor = record.position
        for done in self._collector.due(self._clock()):
            self._ready += self._entries(done)
        self._hand_on()
        oldest = self._collector.oldest_position
        self._exports.acknowledge(self._cursor if oldest is None else min(self._cursor, oldest - 1))
        return len(records) == _READ_RECORDS

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self.step():
                    continue
                self._exports.wait(self._cursor, seconds=_TICK_SECONDS)
            except (SpoolFull, SpoolUnavailable) as error:
                _log.warning("traces cannot be handed on, they wait: %s", error)
                self._stopping.wait(1.0)
            except Exception:  # noqa: BLE001 - a thread whose end nobody would see
                _log.exception("the assembler failed unforeseen, and goes on")
                self._stopping.wait(1.0)

    def _pass_over_old(self) -> None:
        """Drop exports that waited for too long; also while the traces' spool is full."""
        if self._age_limit is None:
            return
        count, last = self._age_limit.passed(self._cursor)
        if count:
            self._age_limit.drop(count)
            self._cursor = last

    def _collect(self, record: Spooled) -> None:
        if not record.intact:
            _log.error("an export on disk is damaged, its spans are lost")
            return
        encoding, tenant = read_key(record.entry.key)
        try:
            export = decode(record.entry.value, encoding)
        except InvalidMessage as error:  # it was readable when it was accepted
            _log.error("an export on disk cannot be read any more: %s", error)
            return
        size = len(record.entry.value) // max(1, len(export.spans))
        for span in export.spans:
            self._collector.add(span, owner=tenant or _NOBODY, position=record.position, size=size, now=self._clock())

    def _hand_on(self) -> None:
        while self._ready:
            part = _first_bytes(self._ready, _TOGETHER_BYTES)
            self._traces.append(part).result(_SPOOL_SECONDS)
            del self._ready[: len(part)]
            self._counters.accepted(len(part))
            self._assembled += len(part)

    def _entries(self, done: Completed) -> Iterable[Entry]:
        try:
            found = assemble(done.spans)
        except Exception:  # noqa: BLE001 - whatever one trace's spans hold, the others were acknowledged, too
            _log.exception("a trace could not be assembled", extra={"trace_id": done.trace_id})
            self._counters.refused(Refusal.INVALID)
            return
        self._not_rag += not found
        for number, one in enumerate(found):
            trace_id = one.trace_id if number == 0 else f"{one.trace_id}-{one.root.span_id or number}"
            try:
                trace = self._treatment.trace(_trace(trace_id, one, tenant=done.owner or None, now=self._now()))
                if trace is not None:
                    yield trace_entry(trace)
            except InvalidTrace as error:
                self._counters.refused(Refusal.INVALID, field=error.field.partition(".")[0].partition("[")[0])
                _log.warning("an assembled trace breaks the contract: %s: %s", error.field, error.problem)


def _first_bytes(entries: Sequence[Entry], most: int) -> list[Entry]:
    """As many as have so many bytes together, at least one."""
    taken: list[Entry] = []
    size = 0
    for entry in entries:
        size += entry.size
        if taken and size > most:
            break
        taken.append(entry)
    return taken


def _trace(trace_id: str, one: Assembled, *, tenant: str | None, now: datetime) -> Trace:
    resource = one.root.resource
    problems = list(one.problems)
    if len(one.documents) > _MOST_DOCUMENTS:
        problems.append(f"only the first {_MOST_DOCUMENTS} of {len(one.documents)} documents are judged")
    message: dict[str, Any] = {
        "schema": "rag_trace.v1",
        "trace_id": trace_id,
        "event_time": _time(one.root.end_ns or one.root.start_ns, now).isoformat(),
        **({"tenant": tenant} if tenant else {}),
        "service": _named(resource, "service.name") or "unknown_service",
        "environment": next(filter(None, (_named(resource, name) for name in _ENVIRONMENTS)), "production"),
        "question": one.question or "",
        "documents": [
            {"id": document.id, "text": document.text, "score": document.score}
            for document in one.documents[:_MOST_DOCUMENTS]
        ],
        "answer": one.answer or "",
        "generator_model": one.model[:200] if one.model else None,
        "tags": {PROBLEMS: "; ".join(problems)[:_LONGEST_TAG]} if problems else {},
        "otel_trace_id": one.trace_id,
        "otel_span_id": one.root.span_id or None,
        "sampling_probability": sampling_probability(one.root.trace_state),
    }
    return decode_trace(json.dumps(message, ensure_ascii=False).encode(errors="replace"), now=now)


def _named(resource: Mapping[str, Any], key: str) -> str | None:
    """A name of OpenTelemetry's, which may hold anything, as our contract has names."""
    value = resource.get(key)
    if not isinstance(value, str):
        return None
    return _NOT_IN_NAMES.sub("-", value).lstrip("-._")[:_LONGEST_NAME] or None


def _time(nanoseconds: int, now: datetime) -> datetime:
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9, UTC) if nanoseconds else now
    except (OverflowError, OSError, ValueError):
        return now
