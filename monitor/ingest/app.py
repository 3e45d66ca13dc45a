"""The sidecar's HTTP API. The caller waits for the disk, never for Kafka."""

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.domain.errors import SpoolFull, SpoolUnavailable
from monitor.ingest.assembler import AssemblyState
from monitor.ingest.body import BodyReader, decompressed
from monitor.ingest.counters import Refusal, Tally
from monitor.ingest.forward import ForwardState
from monitor.ingest.intake import JSON_TYPES, LINE_TYPES, Taken, take
from monitor.ingest.otlp_api import OtlpApi
from monitor.ingest.refused import RequestRefused
from monitor.ingest.spool import Spool

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 5
# Below this, parsing takes less time than handing the body to a thread.
_INLINE_BYTES = 32 * 1024
_BODIES_IN_MEMORY = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one request may be and take."""

    max_batch: int
    max_request_bytes: int
    body_seconds: float = 30.0
    spool_seconds: float = 10.0


class _Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        # ASCII only: whatever a sender put into an id or a name arrives as escapes, not as control characters.
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _random_ids() -> Iterator[str]:
    while True:
        yield uuid.uuid4().hex


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Api:
    """The routes over their collaborators; `create_app` makes an application of it."""

    def __init__(
        self,
        *,
        spool: Spool,
        forwarding: Callable[[], ForwardState],
        tally: Tally,
        limits: Limits,
        clock: Callable[[], datetime] = _utc_now,
        new_ids: Iterator[str] | None = None,
        assembly: Callable[[], AssemblyState] | None = None,
    ) -> None:
        self._spool = spool
        self._forwarding = forwarding
        self._tally = tally
        self._limits = limits
        self._clock = clock
        self._new_ids = new_ids or _random_ids()
        self._assembly = assembly
        self._started = clock()
        self._parsing = asyncio.Semaphore(1)
        self._bodies = BodyReader(
            max_bytes=limits.max_request_bytes,
            max_total_bytes=_BODIES_IN_MEMORY * limits.max_request_bytes,
            seconds=limits.body_seconds,
        )

    async def traces(self, request: Request) -> Response:
        """`POST /v1/rag/traces`: 202 once what was accepted is on disk."""
        try:
            lines = _takes_lines(request)
            async with self._bodies.read(request) as body:
                taken = await self._take(body, request.headers.get("content-encoding", ""), lines=lines)
                await self._store(taken)
        except RequestRefused as refused:
            self._tally.refused(refused.reason)
            return _refusal(refused)
        except ClientDisconnect:
            return Response(status_code=400)
        return self._answer(taken)

    async def _take(self, body: bytes, encoding: str, *, lines: bool) -> Taken:
        if len(body) <= _INLINE_BYTES and not encoding:
            return self._parse(body, encoding, lines)
        # One at a time: parsed, a body takes up to 27 times its bytes, and a small one may unpack to a large one.
        async with self._parsing:
            return await asyncio.to_thread(self._parse, body, encoding, lines)

    def _parse(self, body: bytes, encoding: str, lines: bool) -> Taken:  # noqa: FBT001 - to_thread passes by position
        plain = decompressed(body, encoding, max_bytes=self._limits.max_request_bytes)
        return take(plain, lines=lines, max_batch=self._limits.max_batch, now=self._clock(), new_ids=self._new_ids)

    async def _store(self, taken: Taken) -> None:
        if not taken.entries:
            return
        try:
            async with asyncio.timeout(self._limits.spool_seconds):
                await asyncio.wrap_future(self._spool.append(taken.entries))
        except SpoolFull as error:
            raise RequestRefused(503, Refusal.SPOOL_FULL, str(error), retry_seconds=_RETRY_SECONDS) from error
        except (SpoolUnavailable, TimeoutError) as error:
            problem = str(error) or "the disk did not answer in time"
            raise RequestRefused(503, Refusal.SPOOL_UNAVAILABLE, problem, retry_seconds=_RETRY_SECONDS) from error

    def _answer(self, taken: Taken) -> Response:
        if taken.entries:
            self._tally.accepted(len(taken.entries))
        rejected = []
        for one in taken.rejected:
            self._tally.refused(one.reason, field=one.top_level_field)
            named = {} if one.trace_id is None else {"trace_id": one.trace_id}
            rejected.append({"index": one.index, **named, "field": one.field, "problem": one.problem})
        status = 422 if rejected and not taken.entries else 202
        body = {"accepted": len(taken.entries), "trace_ids": taken.trace_ids, "rejected": rejected}
        return _Json(body, status_code=status)

    async def health(self, _: Request) -> Response:
        """`GET /healthz`: 200 for as long as the process answers."""
        return _Json({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """`GET /readyz`: 200 when a trace would be accepted, else 503 and why not. Kafka has no say in it."""
        problem = self._spool.problem
        return _Json({"ready": problem is None, "problem": problem}, status_code=503 if problem else 200)

    async def status(self, _: Request) -> Response:
        """`GET /v1/status`: counts since the start, what waits, and how Kafka is."""
        spool = await asyncio.to_thread(self._spool.state)
        kafka = self._forwarding()
        now = self._clock()
        waited = (now - spool.oldest).total_seconds() if spool.oldest else None
        return _Json(
            {
                **({"assembly": asdict(self._assembly())} if self._assembly else {}),
                "uptime_seconds": round((now - self._started).total_seconds(), 3),
                "accepted": self._tally.accepted_total,
                "refused": self._tally.refusals,
                "forwarded": self._tally.forwarded_total,
                "spool": {
                    "records": spool.records,
                    "bytes": spool.bytes,
                    "max_bytes": spool.max_bytes,
                    "aside": spool.aside,
                    "oldest_seconds": waited,
                    "problem": spool.problem,
                },
                "kafka": {
                    "state": str(kafka.kafka),
                    "in_flight": kafka.in_flight,
                    "retries": self._tally.retries_total,
                    "problem": kafka.problem,
                },
            }
        )


def _takes_lines(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in LINE_TYPES:
        return True
    if kind in JSON_TYPES:
        return False
    # Not only pedantry: a web page may post other types to a local port without asking, this one it may not.
    raise RequestRefused(415, Refusal.UNSUPPORTED, "Content-Type must be application/json or application/x-ndjson")


def _refusal(refused: RequestRefused) -> Response:
    headers = {}
    if refused.retry_seconds is not None:
        headers["Retry-After"] = str(refused.retry_seconds)
    if refused.status in (408, 413):
        # The rest of the body will not be read.
        headers["Connection"] = "close"
    body = {"accepted": 0, "reason": str(refused.reason), "problem": refused.problem}
    return _Json(body, status_code=refused.status, headers=headers)


def create_app(api: Api, otlp: OtlpApi | None = None) -> Starlette:
    """The ASGI application."""
    return Starlette(
        routes=[
            *([Route("/v1/traces", otlp.traces, methods=["POST"])] if otlp else []),
            Route("/v1/rag/traces", api.traces, methods=["POST"]),
            Route("/v1/status", api.status, methods=["GET"]),
            Route("/healthz", api.health, methods=["GET"]),
            Route("/readyz", api.ready, methods=["GET"]),
        ]
    )
