"""The other end of a tee: an OTLP endpoint over HTTP that is up, slow, busy, hanging or away, as a test tells it."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.embedded.ports import free_port


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request."""

    headers: dict[str, str]
    body: bytes
    answered: int
    at: float


@dataclass
class Collector:
    """Takes exports on a port that stays its own.

    Attributes:
        answers: statuses and headers of the next answers; then 200. Status 0 is an answer that never comes.
        seen: all requests.
        pause: seconds before each answer.
    """

    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    pause: float = 0.0
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def taken(self) -> list[bytes]:
        """The bodies that were answered 200, in order."""
        return [seen.body for seen in self.seen if seen.answered == 200]

    @contextmanager
    def serving(self) -> Iterator[None]:
        app = Starlette(routes=[Route("/v1/traces", self._traces, methods=["POST"])])
        config = uvicorn.Config(app, port=self.port, log_level="error", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        until(lambda: server.started)
        try:
            yield
        finally:
            server.should_exit = server.force_exit = True
            thread.join(20)

    async def _traces(self, request: Request) -> Response:
        body = await request.body()
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        self.seen.append(Seen(headers=dict(request.headers), body=body, answered=status, at=time.monotonic()))
        await asyncio.sleep(self.pause)
        if status == 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return Response(status_code=status or 200, headers=headers)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for what must come about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
