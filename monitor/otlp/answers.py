"""What an exporter is answered."""

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped] # googleapis ships no types
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped] # googleapis ships no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from monitor.otlp.encodings import PROTOBUF


def encode_response(*, rejected: int, reason: str, encoding: str) -> bytes:
    """An `ExportTraceServiceResponse`, with `partial_success` where spans were rejected."""
    response = ExportTraceServiceResponse()
    if rejected:
        response.partial_success.rejected_spans = rejected
        response.partial_success.error_message = reason
    return _encoded(response, encoding)


def encode_status(code: int, message: str, encoding: str, *, retry_seconds: int | None = None) -> bytes:
    """A `google.rpc.Status`, which refuses an export.

    Args:
        code: a google.rpc.Code.
        message: what is wrong.
        encoding: of the status.
        retry_seconds: told in a `google.rpc.RetryInfo`, as OTLP over gRPC wants it.
    """
    status = Status(code=code, message=message)
    if retry_seconds is not None:
        retry = RetryInfo()
        retry.retry_delay.seconds = retry_seconds
        status.details.add().Pack(retry)
    return _encoded(status, encoding)


def _encoded(message: Message, encoding: str) -> bytes:
    return message.SerializeToString() if encoding == PROTOBUF else MessageToJson(message, indent=None).encode()
