"""A collector: what our own telemetry sends arrives at a real OTLP/HTTP receiver."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.receivers import address_of, bound


class Collector:
    """An OTLP/HTTP receiver that keeps what it was sent; spans it only takes."""

    def __init__(self) -> None:
        self.logs: list[ExportLogsServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.app = Starlette(
            routes=[
                Route("/v1/logs", self._take_logs, methods=["POST"]),
                Route("/v1/metrics", self._take_metrics, methods=["POST"]),
                Route("/v1/traces", self._take_traces, methods=["POST"]),
            ]
        )

    def events(self, name: str) -> list[LogRecord]:
        """The events of this name, of all senders, in the order in which they came."""
        return [
            record
            for request in list(self.logs)
            for resource_logs in request.resource_logs
            for scope_logs in resource_logs.scope_logs
            for record in scope_logs.log_records
            if record.event_name == name
        ]

    async def _take_logs(self, request: Request) -> Response:
        self.logs.append(ExportLogsServiceRequest.FromString(await _body(request)))
        return _protobuf(ExportLogsServiceResponse().SerializeToString())

    async def _take_metrics(self, request: Request) -> Response:
        self.metrics.append(ExportMetricsServiceRequest.FromString(await _body(request)))
        return _protobuf(ExportMetricsServiceResponse().SerializeToString())

    async def _take_traces(self, request: Request) -> Response:
        await request.body()
        return _protobuf(ExportTraceServiceResponse().SerializeToString())


async def _body(request: Request) -> bytes:
    body = await request.body()
    return gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body


def _protobuf(body: bytes) -> Response:
    return Response(body, media_type="application/x-protobuf")


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A collector that runs, and its base URL."""
    taken = Collector()
    listener = bound()
    server = uvicorn.Server(uvicorn.Config(taken.app, log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield taken, address_of(listener)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
