"""OTLP over gRPC: `opentelemetry.proto.collector.trace.v1.TraceService/Export` (opentelemetry.io/docs/specs/otlp).

The method is unary, and served as one that streams: only so do we decide when its message is read, and let nobody in
whom the gate has not seen. Messages stay bytes, compressed ones too: the intake inflates and reads them under the
limits that hold for HTTP.
"""

import asyncio
import logging
from typing import NoReturn, TypeAlias, cast

import grpc

from monitor.ingest.body import BodyReader
from monitor.ingest.callers import Caller, Gate
from monitor.ingest.counters import Refusal, Tally
from monitor.ingest.otlp_intake import OtlpIntake
from monitor.ingest.otlp_status import code_of
from monitor.ingest.read_places import ReadPlaces
from monitor.ingest.refused import RequestRefused, shown
from monitor.otlp import PROTOBUF, encode_response, encode_status

_log = logging.getLogger(__name__)

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
_TAKE_SECONDS = 30.0
_MESSAGE_SECONDS = 10.0
_BUSY_RETRY_SECONDS = 1
# No export begins so: it would be field 3 of a wire type that does not exist. gRPC does not tell us how a message was
# compressed, and a caller that asks for gzip sends small messages without.
_GZIP_MAGIC = b"\x1f\x8b"
_STATUS_DETAILS = "grpc-status-details-bin"
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}

_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


class OtlpGrpc:
    """The method over its intake.

    Args:
        intake: takes the exports.
        gate: lets callers in.
        bodies: whose limits hold for messages too; the memory of both counts together.
        tally: told of refusals.
        reads: messages that are read at once; gRPC holds them in memory before we do. Further callers wait, as long
            as a body may take.
        calls: that are open at once; more are told to come again.
    """

    def __init__(
        self, intake: OtlpIntake, *, gate: Gate, bodies: BodyReader, tally: Tally, reads: int = 4, calls: int = 1024
    ) -> None:
        self._intake = intake
        self._gate = gate
        self._bodies = bodies
        self._tally = tally
        self._places = ReadPlaces(reads, wait_seconds=bodies.seconds)
        self._calls = calls
        self._open = 0

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        """The method, for a `grpc.aio` server."""
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(self._export)
        return grpc.method_handlers_generic_handler(SERVICE, {"Export": method})

    async def _export(self, _messages: object, context: _Context) -> bytes:
        self._open += 1
        try:
            return await self._answer(context)
        except RequestRefused as refused:
            refused.count(self._tally)
            await _refuse(context, refused)
        except Exception:  # noqa: BLE001 - gRPC would show the caller our error's text
            _log.exception("an export over gRPC failed unforeseen")
            await context.abort(grpc.StatusCode.INTERNAL, "unforeseen error; the sidecar's log has it")
        finally:
            self._open -= 1

    async def _answer(self, context: _Context) -> bytes:
        caller = self._gate.admit(_authorization(context))
        if self._open > self._calls:
            raise _busy("too many calls at once")
        async with self._places.one(caller.tenant):
            message = await self._read(context)
        with self._bodies.hold(message):
            return await self._take(message, caller)

    async def _read(self, context: _Context) -> bytes:
        # A place is held meanwhile: who says nothing must not hold it for as long as who is slow over HTTP may be.
        seconds = min(self._bodies.seconds, _MESSAGE_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                message = await context.read()
        except TimeoutError:
            problem = f"the message did not arrive within {seconds:g} s"
            raise RequestRefused(408, Refusal.TOO_SLOW, problem) from None
        if not isinstance(message, bytes):
            # Of a message over the limit gRPC itself tells the caller, on sight of its length, and tells us no more.
            raise RequestRefused(400, Refusal.UNREAD, "the call has no message")
        return message

    async def _take(self, message: bytes, caller: Caller) -> bytes:
        compression = "gzip" if message.startswith(_GZIP_MAGIC) else ""
        try:
            async with asyncio.timeout(_TAKE_SECONDS):
                export = await self._intake.take(message, compression=compression, encoding=PROTOBUF, caller=caller)
        except TimeoutError:
            raise _busy(f"the export was not stored within {_TAKE_SECONDS:g} s") from None
        return encode_response(rejected=export.rejected, reason=shown(export.reason or ""), encoding=PROTOBUF)


def _authorization(context: _Context) -> str | None:
    metadata = context.invocation_metadata() or ()
    return next((cast("str", value) for key, value in metadata if key == "authorization"), None)


def _busy(problem: str) -> RequestRefused:
    return RequestRefused(503, Refusal.BUSY, problem, retry_seconds=_BUSY_RETRY_SECONDS)


async def _refuse(context: _Context, refused: RequestRefused) -> NoReturn:
    code = code_of(refused)
    details = encode_status(code, refused.problem, PROTOBUF, retry_seconds=refused.retry_seconds)
    await context.abort(_STATUS_CODES[code], refused.problem, ((_STATUS_DETAILS, details),))
