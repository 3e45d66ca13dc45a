"""A sidecar in this process, over real HTTP and real spools, whose Kafka is a list and whose time the tests tell."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import httpx
import uvicorn

from monitor.ingest.ageing import AgeLimit
from monitor.ingest.app import Api, create_app
from monitor.ingest.assembler import Assembler
from monitor.ingest.body import BodyReader
from monitor.ingest.callers import Gate, OpenGate
from monitor.ingest.counters import Tally
from monitor.ingest.dispatch_link import DispatchState
from monitor.ingest.feedback_api import FeedbackApi
from monitor.ingest.forward import Forwarder
from monitor.ingest.grpc_server import GrpcServer
from monitor.ingest.json_requests import Limits
from monitor.ingest.memory_producer import MemoryProducer
from monitor.ingest.otlp_api import OtlpApi
from monitor.ingest.otlp_grpc import OtlpGrpc
from monitor.ingest.otlp_intake import OtlpIntake
from monitor.ingest.rag_api import RagApi
from monitor.ingest.serve import Companion, Server, listen, url_of
from monitor.ingest.spool import Spool
from monitor.ingest.status_api import FeedbackStanding, StatusApi
from monitor.ingest.tee import Tee
from monitor.ingest.timing import Answered
from monitor.ingest.treatment import NoTreatment, Treatment
from monitor.spans.collecting import Patience

MEBIBYTE = 1024 * 1024


class Seconds:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class ServedApp:
    """An ASGI application behind uvicorn on a free port, and what serves beside it."""

    def __init__(
        self, *apis: Api, beside: Sequence[Companion] = (), tell: Callable[[Answered], None] | None = None
    ) -> None:
        self.listener = listen("127.0.0.1", 0)
        ready = threading.Event()
        config = uvicorn.Config(create_app(*apis, tell=tell), log_config=None, lifespan="off", ws="none")
        self._server = Server(config, on_ready=ready.set, beside=beside)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self.listener]})
        self._thread.start()
        assert ready.wait(20)
        self.url = url_of(self.listener)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self.listener.close()


class LocalSidecar:
    """All of a sidecar but its process."""

    def __init__(
        self,
        directory: Path,
        *,
        max_batch: int = 20,
        max_request_bytes: int = 4 * MEBIBYTE,
        body_seconds: float = 0.5,
        spool_bytes: int = 64 * MEBIBYTE,
        export_bytes: int = 64 * MEBIBYTE,
        span_bytes: int = 64 * MEBIBYTE,
        sync: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        gate: Gate | None = None,
        treatment: Callable[[Tally], Treatment] = lambda _: NoTreatment(),
        credentials: grpc.ServerCredentials | None = None,
        tee: Tee | None = None,
        grpc_calls: int = 1024,
        max_age: timedelta | None = None,
        tell: Callable[[Answered], None] | None = None,
    ) -> None:
        self.spool = Spool(directory / "traces", max_bytes=spool_bytes, sync=sync, clock=now)
        self.exports = Spool(directory / "spans", max_bytes=export_bytes, sync=sync, clock=now)
        self.tally, self.clock, self.kafka = Tally(), Seconds(), MemoryProducer()
        ages: dict[str, Any] = {"max_age": max_age, "counters": self.tally, "now": now}
        self.forwarder = Forwarder(
            self.spool, self.kafka, topic="t", counters=self.tally, age_limit=AgeLimit(self.spool, "traces", **ages)
        )
        self.feedback_spool = Spool(directory / "feedback", max_bytes=spool_bytes, sync=sync, clock=now)
        self.feedback_tally = Tally()
        self.feedback_forwarder = Forwarder(self.feedback_spool, self.kafka, topic="f", counters=self.feedback_tally)
        treated, gate = treatment(self.tally), gate or OpenGate()
        self.assembler = Assembler(
            self.exports,
            self.spool,
            counters=self.tally,
            patience=Patience(),
            max_bytes=span_bytes,
            treatment=treated,
            age_limit=AgeLimit(self.exports, "exports", **ages),
            clock=self.clock,
        )
        bodies = BodyReader(max_bytes=max_request_bytes, max_total_bytes=4 * max_request_bytes, seconds=body_seconds)
        self.intake = OtlpIntake(
            self.exports, tally=self.tally, max_bytes=max_request_bytes, treatment=treated, tee=tee
        )
        limits = Limits(max_batch=max_batch, max_request_bytes=max_request_bytes)
        rag = RagApi(
            self.spool,
            gate=gate,
            bodies=bodies,
            tally=self.tally,
            limits=limits,
            treatment=treated,
            clock=now,
            new_ids=(f"made-{number}" for number in count()),
        )
        feedback = FeedbackApi(
            self.feedback_spool,
            gate=gate,
            bodies=bodies,
            tally=self.feedback_tally,
            limits=limits,
            treatment=treated,
            clock=now,
            new_ids=(f"made-{number}" for number in count()),
        )
        otlp = OtlpApi(self.intake, gate=gate, bodies=bodies, tally=self.tally)
        status = StatusApi(
            {"traces": self.spool, "exports": self.exports},
            gate=gate,
            dispatch=lambda: DispatchState(
                kafka={"traces": self.forwarder.state()}, assembly=self.assembler.state, assembled=None
            ),
            tally=self.tally,
            feedback=FeedbackStanding(spool=self.feedback_spool, tally=self.feedback_tally),
            tee=(lambda: tee.state) if tee else None,
            clock=now,
        )
        self._grpc = GrpcServer(
            OtlpGrpc(self.intake, gate=gate, bodies=bodies, tally=self.tally, calls=grpc_calls),
            host="127.0.0.1",
            port=0,
            max_bytes=max_request_bytes,
            credentials=credentials,
        )
        self._served = ServedApp(rag, feedback, otlp, status, beside=[self._grpc], tell=tell)
        self.listener = self._served.listener
        self.url = self._served.url
        self.grpc_address = self._grpc.url.partition("://")[2]
        self.client = httpx.Client(base_url=self.url, timeout=20)

    def post(self, value: Any, **headers: str) -> httpx.Response:
        """Traces as JSON."""
        return self.client.post("/v1/rag/traces", json=value, headers=headers)

    def post_raw(self, body: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
        """Anything, said to be JSON unless `content_type` says otherwise."""
        named = {name.lower().replace("_", "-"): value for name, value in headers.items()}
        return self.client.post("/v1/rag/traces", content=body, headers={"content-type": "application/json", **named})

    def feed_back(self, value: Any, **headers: str) -> httpx.Response:
        """Feedback as JSON."""
        return self.client.post("/v1/feedback", json=value, headers=headers)

    def feedback(self) -> list[dict[str, Any]]:
        """All feedback on disk."""
        return [json.loads(spooled.entry.value) for spooled in self.feedback_spool.read(0, limit=100_000)]

    def export(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        """An OTLP export."""
        return self.client.post("/v1/traces", content=body, headers=headers)

    def stored(self) -> list[dict[str, Any]]:
        """All traces on disk."""
        return [json.loads(spooled.entry.value) for spooled in self.spool.read(0, limit=100_000, max_bytes=1 << 30)]

    def assembled(self, seconds: float = 4) -> list[dict[str, Any]]:
        """All traces on disk, once so many seconds have gone by for the assembler."""
        while self.assembler.step():
            pass
        self.clock.now += seconds
        self.assembler.step()
        return self.stored()

    def close(self) -> None:
        self.client.close()
        self._served.close()
        self.exports.close()
        self.feedback_spool.close()
        self.spool.close()
