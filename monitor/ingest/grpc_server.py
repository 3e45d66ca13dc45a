"""grpc.aio, beside uvicorn and in its event loop: both call the same intake, which belongs to one loop."""

from collections.abc import Callable

import grpc

from monitor.domain.errors import InvalidSettings
from monitor.ingest.otlp_grpc import OtlpGrpc
from monitor.ingest.tls import Certificate, Loaded

_GRACEFUL_SECONDS = 10.0
_IDENTITY_AND_GZIP = 0b101


class GrpcServer:
    """OTLP over gRPC on one port.

    Args:
        service: what it answers with.
        host: address to listen on.
        port: 0 takes a free one.
        max_bytes: of one message, as sent.
        credentials: for TLS; see `server_credentials`.
    """

    def __init__(
        self,
        service: OtlpGrpc,
        *,
        host: str,
        port: int,
        max_bytes: int,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._service = service
        self._host = f"[{host}]" if ":" in host else host
        self._port = port
        self._max_bytes = max_bytes
        self._credentials = credentials
        self._server: grpc.aio.Server | None = None

    @property
    def url(self) -> str:
        """Where a client on this machine finds it, once it has started."""
        return f"{'https' if self._credentials else 'http'}://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen and serve, in the running loop.

        Raises:
            InvalidSettings: the address cannot be had.
        """
        server = grpc.aio.server(options=self._options())
        server.add_generic_rpc_handlers((self._service.handler,))
        address = f"{self._host}:{self._port}"
        try:
            if self._credentials is None:
                self._port = server.add_insecure_port(address)
            else:
                self._port = server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise InvalidSettings(
                f"sidecar.host, sidecar.grpc_port: cannot listen on {address}: {error}; "
                "another port, or sidecar.grpc = false"
            ) from None
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Take no new calls; let those that have begun end, for 10 s."""
        if self._server is not None:
            await self._server.stop(_GRACEFUL_SECONDS)

    def _options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.max_receive_message_length", self._max_bytes),
            # Or a second sidecar would take the same port, and half of the calls.
            ("grpc.so_reuseport", 0),
            # Messages are inflated where all others are, and the tee passes them on as they came.
            ("grpc.per_message_decompression", 0),
            ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_AND_GZIP),
            ("grpc.max_concurrent_streams", 256),
            # A peer that is gone without a word holds no call for longer than this.
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # Exporters ping idle connections; by default they would be told to stop, and cut off.
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]


def server_credentials(certificate: Certificate) -> grpc.ServerCredentials:
    """The same, as gRPC wants it: it asks at each new connection, and is told where something has changed."""
    first = certificate.now()
    return grpc.dynamic_ssl_server_credentials(
        _configuration(first),
        _changes(certificate, since=first),  # type: ignore[arg-type] # None is "no change", which the types leave out
        require_client_authentication=certificate.asks_callers,
    )


def _changes(certificate: Certificate, *, since: Loaded) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    told = since

    def change() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        now = certificate.now()
        if now is told:
            return None
        told = now
        return _configuration(now)

    return change


def _configuration(loaded: Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(loaded.key, loaded.certificate)], root_certificates=loaded.client_ca
    )
