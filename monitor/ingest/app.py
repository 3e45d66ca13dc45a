"""The sidecar's HTTP application: the routes of its APIs, side by side, and their description."""

from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from monitor.ingest.openapi import document
from monitor.ingest.openapi.parts import Description
from monitor.ingest.timing import Answered, Timed


class Api(Protocol):
    """Something that answers to routes, and says what it takes and gives."""

    @property
    def routes(self) -> Sequence[Route]:
        """What it answers to."""

    @property
    def openapi(self) -> Description:
        """Each of its routes, described."""


def create_app(*apis: Api, tell: Callable[[Answered], None] | None = None) -> Starlette:
    """The ASGI application; `tell` is told how long each request took."""
    routes = [*(route for api in apis for route in api.routes), document.route(api.openapi for api in apis)]
    timed = [Middleware(Timed, routes=[route.path for route in routes], tell=tell)] if tell else []
    return Starlette(routes=routes, middleware=timed)
