"""Settings of the places that data flow through: Kafka, Postgres, the sidecar."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from monitor.config.section import Seconds, Section


class KafkaSettings(Section):
    """Where Kafka is, and what our topics are called."""

    bootstrap_servers: str = "127.0.0.1:9092"
    """Brokers as `host:port`, separated by commas."""
    traces_topic: str = "rag.traces.v1"
    """Traces, from the sidecars to the judge workers."""
    judgements_topic: str = "rag.judgements.v1"
    """Judgements, from the judge workers to the ledger worker."""
    dead_letters_topic: str = "rag.dead-letters.v1"
    """Records that could not be read, with their reason and bytes."""
    alerts_topic: str = "rag.alerts.v1"
    """Alerts, for systems that subscribe through Kafka."""
    partitions: Annotated[int, Field(ge=1, le=1024)] = 4
    """Partitions of a topic that groundwatch creates; the number of judge workers cannot usefully exceed it."""
    replication_factor: Annotated[int, Field(ge=1, le=7)] = 1
    """Replicas of a topic that groundwatch creates; 3 in production."""
    session_timeout_seconds: Seconds = 30.0
    """A worker that sends no heartbeat for this long loses its partitions to another."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to talk to the brokers."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """SASL mechanism, where the protocol is SASL_*."""
    sasl_username: str | None = None
    """SASL user."""
    sasl_password: SecretStr | None = None
    """SASL password; better given by the environment than in the file."""
    ssl_ca_file: Path | None = None
    """CA bundle for TLS; the system's own when absent."""

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Self:
        names = ("sasl_mechanism", "sasl_username", "sasl_password")
        missing = [name for name in names if getattr(self, name) is None]
        if self.security_protocol.startswith("SASL_") and missing:
            raise ValueError(f"security_protocol {self.security_protocol} also needs {', '.join(missing)}")
        return self


class PostgresSettings(Section):
    """Where the ledger is."""

    url: SecretStr = SecretStr("postgresql://groundwatch@127.0.0.1:5432/groundwatch")
    """libpq URL of the ledger database."""
    connect_timeout_seconds: Seconds = 5.0
    """How long to wait for a connection before trying again."""
    statement_timeout_seconds: Seconds = 30.0
    """No statement runs longer; it is cancelled and its batch tried again."""


class SidecarSettings(Section):
    """The process beside the RAG service."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 in a container."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8710
    """Port to listen on; 0 takes a free one."""
    spool_directory: Path = Path("spool")
    """Where accepted traces wait until Kafka has them. Must survive a restart."""
    spool_max_bytes: Annotated[int, Field(ge=16_777_216)] = 1_073_741_824
    """Above this the sidecar answers 503 rather than fill the disk."""
    spool_sync: bool = True
    """fsync before answering. Without it, a power cut or a crash of the machine can lose what was acknowledged."""
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
