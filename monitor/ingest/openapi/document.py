"""`GET /openapi.json`: the description of the whole HTTP API, put together from what each API says of itself."""

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor import __version__
from monitor.ingest.http import JsonResponse
from monitor.ingest.openapi import parts
from monitor.ingest.openapi.parts import Description, answer

PATH = "/openapi.json"
OWN = Description(
    paths={
        PATH: {
            "get": {
                "operationId": "openapi",
                "summary": "This description",
                "responses": {"200": answer("OpenAPI 3.1.", {"type": "object", "required": ["openapi", "paths"]})},
            }
        }
    },
    schemas=parts.SCHEMAS,
)


def document(descriptions: Iterable[Description]) -> Mapping[str, Any]:
    """An OpenAPI document.

    Raises:
        ValueError: two describe the same path, or mean different things by one schema's name.
    """
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for one in (*descriptions, OWN):
        for path, item in one.paths.items():
            if paths.setdefault(path, item) is not item:
                raise ValueError(f"{path} is described twice")
        for name, schema in one.schemas.items():
            if schemas.setdefault(name, schema) != schema:
                raise ValueError(f"two schemas are named {name}")
    info = {"title": "groundwatch sidecar", "version": __version__, "license": {"name": "Apache-2.0"}}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def route(descriptions: Iterable[Description]) -> Route:
    """Where the document is had."""
    whole = document(descriptions)

    async def openapi(_: Request) -> Response:
        return JsonResponse(whole)

    return Route(PATH, openapi, methods=["GET"])
