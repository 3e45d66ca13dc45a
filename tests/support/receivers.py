"""A webhook's other end whose answers a test decides."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Receiver:
    """A webhook's other end. `answers` are the next statuses, then 204; `/hang` never answers."""

    def __init__(self, answers: Sequence[int] = ()) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self._answers = list(answers)
        self._released = asyncio.Event()
        self.app = Starlette(
            routes=[Route("/hook", self._hook, methods=["POST"]), Route("/hang", self._hang, methods=["POST"])]
        )

    async def _hook(self, request: Request) -> Response:
        self.taken.append((dict(request.headers), await request.body()))
        return Response(status_code=self._answers.pop(0) if self._answers else 204)

    async def _hang(self, _: Request) -> Response:
        await self._released.wait()
        return Response()


@contextmanager
def serving(receiver: Receiver, listener: socket.socket | None = None) -> Iterator[str]:
    """The receiver behind a real server; its base URL."""
    listener = listener or bound()
    config = uvicorn.Config(receiver.app, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield address_of(listener)
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
        listener.close()


def bound() -> socket.socket:
    """A port of its own that nobody listens on yet: connections are refused."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


def address_of(listener: socket.socket) -> str:
    """Its base URL."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
