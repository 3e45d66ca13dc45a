"""Settings of the process beside the RAG service."""

import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from monitor.config.section import HttpUrl, Seconds, Section

HeaderName = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_OWN_HEADERS = ("content-type", "content-encoding", "content-length", "transfer-encoding", "connection", "host")


class SidecarSettings(Section):
    """The process beside the RAG service."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 in a container."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8710
    """Port to listen on; 0 takes a free one."""
    grpc: bool = True
    """Take OTLP over gRPC, too."""
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = 4317
    """Port for OTLP over gRPC, on the same address; 0 takes a free one."""
    tee_endpoint: HttpUrl | None = None
    """OTLP over HTTP (base URL, or that of its /v1/traces): every acknowledged export is passed on to it, unchanged."""
    tee_headers: dict[HeaderName, SecretStr] = Field(default_factory=dict)
    """Sent to the tee's endpoint, such as a vendor's API key: {"x-api-key": "secret"}."""
    tee_queue_bytes: Annotated[int, Field(ge=1_048_576)] = 67_108_864
    """Exports that wait in memory for the tee's endpoint; above it, the oldest are dropped and counted."""
    tee_timeout_seconds: Seconds = 10.0
    """Within which the tee's endpoint must have answered; it is asked again after that."""
    tee_give_up_seconds: Seconds = 300.0
    """An export that the tee's endpoint has not taken after so long is dropped, and the next one tried."""
    tls_certificate_file: Path | None = None
    """Certificate chain, PEM: with it, both ports speak TLS only. Read anew when the file is replaced."""
    tls_key_file: Path | None = None
    """The certificate's private key, PEM, without a password."""
    tls_client_ca_file: Path | None = None
    """Authorities, PEM: with them, only callers with a certificate of theirs are let in (mutual TLS)."""
    spool_directory: Path = Path("spool")
    """Where accepted traces wait until Kafka has them. Must survive a restart."""
    spool_max_bytes: Annotated[int, Field(ge=16_777_216)] = 1_073_741_824
    """Above this the sidecar answers 503 rather than fill the disk."""
    spool_sync: bool = True
    """fsync before answering. Without it, a power cut or a crash of the machine can lose what was acknowledged."""
    spool_max_age_seconds: Seconds | None = None
    """Traces, and OTLP exports, that have waited on disk for longer are dropped and counted; never when absent."""
    span_settle_seconds: Seconds = 3.0
    """A trace from spans is whole when its root has come, and for so long nothing more: exporters send in batches."""
    span_idle_seconds: Seconds = 30.0
    """A trace without its root is waited for so long after its last span."""
    span_limit_seconds: Seconds = 300.0
    """No trace is waited for longer than this after its first span."""
    span_memory_bytes: Annotated[int, Field(ge=1_048_576)] = 67_108_864
    """Spans that wait, as sent (in memory several times that); above it, the longest silent traces are handed on."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Traces in one request."""
    max_request_bytes: Annotated[int, Field(ge=1024)] = 16_777_216
    """Size of one request; larger is refused with 413 before it is read."""

    @field_validator("tee_headers")
    @classmethod
    def _sendable(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if name.lower() in _OWN_HEADERS:
                raise ValueError(f"{name} is said of each export anew; leave it out")
            if not _HEADER_VALUE.fullmatch(value.get_secret_value()):
                raise ValueError(f"the value of {name} should be printable ASCII")
        return headers

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file go together; one is missing")
        if self.tls_client_ca_file and self.tls_certificate_file is None:
            raise ValueError("tls_client_ca_file also needs tls_certificate_file and tls_key_file")
        return self

    @model_validator(mode="after")
    def _not_to_itself(self) -> Self:
        if self.tee_endpoint is None:
            return self
        target = urlsplit(self.tee_endpoint)
        if target.hostname in (self.host, "localhost", "127.0.0.1", "::1") and target.port == self.port:
            raise ValueError("tee_endpoint is this sidecar's own address: each export would come back for ever")
        return self
