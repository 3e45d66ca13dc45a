"""How long requests take, told to whoever counts: at the outside of the application, whatever a route does."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_UNANSWERED = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """One request. Every field has few values, whatever a caller sends.

    Attributes:
        method: as sent where HTTP knows it, else `_OTHER`.
        route: of those that the application has, else None.
        status: of the answer; 500 where there was none.
        scheme: `http` or `https`.
        seconds: until the last byte was handed over.
    """

    method: str
    route: str | None
    status: int
    scheme: str
    seconds: float


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})


class Timed:
    """An application whose requests are timed.

    Args:
        app: what answers.
        routes: paths that it knows.
        tell: told of each request, on the event loop: must neither block nor raise.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Collection[str],
        tell: Callable[[Answered], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._routes = frozenset(routes)
        self._tell = tell
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begun = _UNANSWERED, self._clock()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            self._tell(
                Answered(
                    method=scope["method"] if scope["method"] in _METHODS else "_OTHER",
                    route=scope["path"] if scope["path"] in self._routes else None,
                    status=status,
                    scheme="https" if scope.get("scheme") == "https" else "http",
                    seconds=self._clock() - begun,
                )
            )
