"""An OTLP endpoint that does nothing: what an exporter waits for in any case. `python -m … PORT`."""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def _traces(request: Request) -> Response:
    await request.body()
    return Response(b"", media_type="application/x-protobuf")


def main() -> None:
    """Serve until told to stop, on the same server as the sidecar's."""
    app = Starlette(routes=[Route("/v1/traces", _traces, methods=["POST"])])
    uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False, lifespan="off", ws="none")


if __name__ == "__main__":
    main()
