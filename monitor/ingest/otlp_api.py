"""`POST /v1/traces`: OTLP over HTTP, in protobuf and JSON (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP")."""

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.ingest.body import BodyReader
from monitor.ingest.callers import Gate
from monitor.ingest.counters import Refusal, Tally
from monitor.ingest.http import with_refusal_headers
from monitor.ingest.openapi import otlp
from monitor.ingest.openapi.parts import Description
from monitor.ingest.otlp_intake import OtlpIntake
from monitor.ingest.otlp_status import code_of
from monitor.ingest.refused import RequestRefused, shown
from monitor.otlp import CONTENT_TYPES, PROTOBUF, Inspected, encode_response, encode_status


class OtlpApi:
    """The route over its intake."""

    def __init__(self, intake: OtlpIntake, *, gate: Gate, bodies: BodyReader, tally: Tally) -> None:
        self._intake = intake
        self._gate = gate
        self._bodies = bodies
        self._tally = tally

    @property
    def routes(self) -> list[Route]:
        """What it answers to."""
        return [Route("/v1/traces", self.traces, methods=["POST"])]

    @property
    def openapi(self) -> Description:
        """What it takes and gives."""
        return otlp.description()

    async def traces(self, request: Request) -> Response:
        """200 once all spans that can be read are on disk; `partial_success` tells of the others."""
        encoding = _encoding(request)
        try:
            found = await self._take(request, encoding)
        except RequestRefused as refused:
            refused.count(self._tally)
            return _refusal(refused, encoding or PROTOBUF)
        except ClientDisconnect:
            return Response(status_code=400)
        said = encoding or PROTOBUF
        body = encode_response(rejected=found.rejected, reason=shown(found.reason or ""), encoding=said)
        return Response(body, media_type=CONTENT_TYPES[said])

    async def _take(self, request: Request, encoding: str | None) -> Inspected:
        caller = self._gate.admit(request.headers.get("authorization"))
        if encoding is None:
            problem = f"Content-Type must be {' or '.join(CONTENT_TYPES.values())}"
            raise RequestRefused(415, Refusal.UNSUPPORTED, problem)
        compression = request.headers.get("content-encoding", "")
        async with self._bodies.read(request) as body:
            return await self._intake.take(body, compression=compression, encoding=encoding, caller=caller)


def _encoding(request: Request) -> str | None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return next((encoding for encoding, known in CONTENT_TYPES.items() if known == kind), None)


def _refusal(refused: RequestRefused, encoding: str) -> Response:
    body = encode_status(code_of(refused), refused.problem, encoding)
    response = Response(body, status_code=refused.status, media_type=CONTENT_TYPES[encoding])
    return with_refusal_headers(response, refused)
