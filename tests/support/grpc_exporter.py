"""A caller that sends bytes as they are to OTLP's method over gRPC."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_SECONDS = 20.0
_UNLIMITED = (("grpc.max_send_message_length", -1),)


class Exporter:
    """One connection."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self.channel = (
            grpc.secure_channel(address, credentials, options=_UNLIMITED)
            if credentials
            else grpc.insecure_channel(address, options=_UNLIMITED)
        )
        self.call: Callable[..., bytes] = self.channel.unary_unary(METHOD)

    def send(self, body: bytes, **options: Any) -> ExportTraceServiceResponse:
        """The answer to an export."""
        return ExportTraceServiceResponse.FromString(self.call(body, timeout=_SECONDS, **options))

    def refused(self, body: bytes, **options: Any) -> grpc.RpcError:
        """The refusal of an export."""
        with pytest.raises(grpc.RpcError) as refusal:
            self.send(body, **options)
        return refusal.value

    def close(self) -> None:
        self.channel.close()
