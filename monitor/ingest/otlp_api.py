"""`POST /v1/traces`: OTLP over HTTP, in protobuf and JSON (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP")."""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from monitor.domain.errors import InvalidMessage, SpoolFull, SpoolUnavailable
from monitor.ingest.body import BodyReader, decompressed
from monitor.ingest.counters import Refusal, Tally
from monitor.ingest.refused import RequestRefused, shown
from monitor.ingest.spool import Spool
from monitor.ingest.spool_file import Entry
from monitor.otlp import CONTENT_TYPES, PROTOBUF, Export, decode, encode_response, encode_status

_RETRY_SECONDS = 5
_BODIES_IN_MEMORY = 4
# google.rpc.Code of a refusal, by HTTP status.
_CODES = {400: 3, 408: 4, 413: 8, 415: 3, 503: 14}
_UNKNOWN = 2


class OtlpApi:
    """The route over its spool. The exporter is answered once its export is on disk.

    Args:
        spool: of exports.
        tally: told of refusals.
        max_request_bytes: of one export, as sent and again once decompressed.
        body_seconds: within which it must have arrived.
        spool_seconds: within which the disk must have answered.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        tally: Tally,
        max_request_bytes: int,
        body_seconds: float = 30.0,
        spool_seconds: float = 10.0,
    ) -> None:
        self._spool = spool
        self._tally = tally
        self._max_bytes = max_request_bytes
        self._spool_seconds = spool_seconds
        self._decoding = asyncio.Semaphore(1)
        self._bodies = BodyReader(
            max_bytes=max_request_bytes, max_total_bytes=_BODIES_IN_MEMORY * max_request_bytes, seconds=body_seconds
        )

    async def traces(self, request: Request) -> Response:
        """200 once all spans that can be read are on disk; `partial_success` tells of the others."""
        encoding = _encoding(request)
        if encoding is None:
            self._tally.refused(Refusal.UNSUPPORTED)
            problem = f"Content-Type must be {' or '.join(CONTENT_TYPES.values())}"
            return _refusal(RequestRefused(415, Refusal.UNSUPPORTED, problem), PROTOBUF)
        try:
            async with self._bodies.read(request) as body:
                # One at a time: decoded, an export takes many times its bytes.
                async with self._decoding:
                    plain, export = await asyncio.to_thread(
                        self._decoded, body, request.headers.get("content-encoding", ""), encoding
                    )
                if export.spans:
                    await self._store(Entry(key=encoding.encode(), value=plain))
        except RequestRefused as refused:
            self._tally.refused(refused.reason)
            return _refusal(refused, encoding)
        except ClientDisconnect:
            return Response(status_code=400)
        return self._answer(export, encoding)

    def _decoded(self, body: bytes, content_encoding: str, encoding: str) -> tuple[bytes, Export]:
        plain = decompressed(body, content_encoding, max_bytes=self._max_bytes)
        try:
            return plain, decode(plain, encoding)
        except InvalidMessage as error:
            raise RequestRefused(400, Refusal.INVALID, shown(str(error))) from None

    async def _store(self, entry: Entry) -> None:
        try:
            async with asyncio.timeout(self._spool_seconds):
                await asyncio.wrap_future(self._spool.append([entry]))
        except SpoolFull as error:
            raise RequestRefused(503, Refusal.SPOOL_FULL, str(error), retry_seconds=_RETRY_SECONDS) from error
        except (SpoolUnavailable, TimeoutError) as error:
            problem = str(error) or "the disk did not answer in time"
            raise RequestRefused(503, Refusal.SPOOL_UNAVAILABLE, problem, retry_seconds=_RETRY_SECONDS) from error

    def _answer(self, export: Export, encoding: str) -> Response:
        if export.rejected:
            self._tally.refused(Refusal.INVALID)
        reason = shown(export.reason or "")
        body = encode_response(rejected=export.rejected, reason=reason, encoding=encoding)
        return Response(body, media_type=CONTENT_TYPES[encoding])


def _encoding(request: Request) -> str | None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return next((encoding for encoding, known in CONTENT_TYPES.items() if known == kind), None)


def _refusal(refused: RequestRefused, encoding: str) -> Response:
    body = encode_status(_CODES.get(refused.status, _UNKNOWN), refused.problem, encoding)
    response = Response(body, status_code=refused.status, media_type=CONTENT_TYPES[encoding])
    if refused.retry_seconds is not None:
        response.headers["Retry-After"] = str(refused.retry_seconds)
    if refused.status in (408, 413):
        # The rest of the body will not be read.
        response.headers["Connection"] = "close"
    return response
