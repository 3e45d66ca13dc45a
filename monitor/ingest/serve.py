"""uvicorn, started by us rather than by its command line: our socket, our ready line, our way to stop."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import uvicorn
from starlette.types import ASGIApp

from monitor.domain.errors import InvalidSettings
from monitor.ingest.tls import Certificate

_GRACEFUL_SECONDS = 10
_KEEP_ALIVE_SECONDS = 30
# Connections beyond this are answered 503 by uvicorn itself, before a body is read.
_CONNECTIONS = 1024
_BACKLOG = 2048


class Companion(Protocol):
    """Something that serves beside HTTP, in the same event loop."""

    async def start(self) -> None:
        """Serve."""

    async def stop(self) -> None:
        """Finish what has begun, within a time of its own, and stop."""


class Server(uvicorn.Server):
    """uvicorn with companions: they are up before it is ready, and stop while it stops."""

    def __init__(
        self, config: uvicorn.Config, *, on_ready: Callable[[], None], beside: Sequence[Companion] = ()
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._beside = beside

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        for companion in self._beside:
            await companion.start()
        await super().startup(sockets)
        if self.started:
            # In a thread: a reader of the line that does not read must not stop the loop.
            await asyncio.to_thread(self._on_ready)
        if self.should_exit:  # told to stop before it was up, it does not come to `shutdown`
            await self._stop_companions()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await asyncio.gather(super().shutdown(sockets), self._stop_companions())

    async def _stop_companions(self) -> None:
        await asyncio.gather(*(companion.stop() for companion in self._beside))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        InvalidSettings: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise InvalidSettings(f"sidecar.host, sidecar.port: cannot listen on {host}:{port}: {error}") from error
    # asyncio does so only for sockets that name their protocol. Accepted ones inherit it; without it, an answer
    # in two writes waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket, *, tls: Certificate | None = None) -> str:
    """Where a client on this machine finds it."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"


def serve(
    app: ASGIApp,
    listener: socket.socket,
    *,
    on_ready: Callable[[], None],
    beside: Sequence[Companion] = (),
    tls: Certificate | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish the requests that have begun, and return."""
    secured: dict[str, Any] = {"ssl_context_factory": lambda *_: tls.listening_context()} if tls else {}
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
        **secured,
    )
    with _signals_left_to_uvicorn():
        Server(config, on_ready=on_ready, beside=beside).run(sockets=[listener])


@contextlib.contextmanager
def _signals_left_to_uvicorn() -> Iterator[None]:
    # uvicorn raises the signal that stopped it once more when it is done; by default that would kill the process
    # before the spool is drained.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
