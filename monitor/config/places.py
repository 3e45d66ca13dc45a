"""Settings of the places that data flow through: Kafka and Postgres."""

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
    replays_topic: str = "rag.replays.v1"
    """Traces that are to be judged anew, from `groundwatch replay` to judge workers of their own."""
    feedback_topic: str = "rag.feedback.v1"
    """Feedback, from the sidecars to the ledger worker."""
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
    ssl_certificate_file: Path | None = None
    """Our certificate, PEM, where brokers ask for one (mutual TLS)."""
    ssl_key_file: Path | None = None
    """Its private key, PEM."""
    ssl_key_password: SecretStr | None = None
    """The private key's password, where it has one; better given by the environment than in the file."""
    ssl_check_hostname: bool = True
    """A broker's certificate must be for the name that it is reached by. Without it, whoever has any certificate of the
    same authority may pose as a broker."""

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Self:
        names = ("sasl_mechanism", "sasl_username", "sasl_password")
        missing = [name for name in names if getattr(self, name) is None]
        if self.security_protocol.startswith("SASL_") and missing:
            raise ValueError(f"security_protocol {self.security_protocol} also needs {', '.join(missing)}")
        if (self.ssl_certificate_file is None) != (self.ssl_key_file is None):
            raise ValueError("ssl_certificate_file and ssl_key_file go together; one is missing")
        if self.ssl_key_password and self.ssl_key_file is None:
            raise ValueError("ssl_key_password also needs ssl_certificate_file and ssl_key_file")
        return self


class PostgresSettings(Section):
    """Where the ledger is."""

    url: SecretStr = SecretStr("postgresql://groundwatch@127.0.0.1:5432/groundwatch")
    """libpq URL of the ledger database."""
    reader_url: SecretStr | None = None
    """libpq URL of a reader, for `groundwatch sql`; without it that is `url`'s user, as a reader of all tenants."""
    saved_queries: Path | None = None
    """Folder with `.sql` files of your own for `groundwatch sql`; they win over shipped ones of the same name."""
    connect_timeout_seconds: Seconds = 5.0
    """How long to wait for a connection before trying again."""
    statement_timeout_seconds: Seconds = 30.0
    """No statement runs longer; it is cancelled and its batch tried again."""
