"""How our clients reach Kafka: one place for addresses and credentials."""

import ssl
from collections.abc import Callable
from typing import Any

import faust
from kafka.net.compat import KafkaNetClient

from monitor.config import KafkaSettings
from monitor.domain.errors import InvalidSettings


def connect(kind: Callable[..., Any], settings: KafkaSettings, *, deadline_seconds: float, **options: Any) -> Any:
    """Make a kafka-python client (`KafkaProducer`, …) that has reached Kafka.

    Raises:
        KafkaError: no broker answered within the deadline. Unlike kafka-python's own constructors, this then
            leaves no I/O thread behind, and may be tried again all day.
    """
    opened: list[KafkaNetClient] = []

    def open_client(**configuration: Any) -> KafkaNetClient:
        opened.append(KafkaNetClient(**configuration))
        return opened[-1]

    try:
        return kind(
            **_client_options(settings),
            bootstrap_timeout_ms=int(deadline_seconds * 1000),
            kafka_client=open_client,
            **options,
        )
    except BaseException:
        for client in opened:
            client.close()
        raise


def _client_options(settings: KafkaSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": servers(settings),
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism or "PLAIN"
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = _password(settings)
    return options


def servers(settings: KafkaSettings) -> list[str]:
    """The bootstrap brokers as `host:port`."""
    return [server.strip() for server in settings.bootstrap_servers.split(",") if server.strip()]


def faust_credentials(settings: KafkaSettings) -> Any:
    """What Faust wants as `broker_credentials`; None for plain text without a password."""
    context = _ssl_context(settings) if settings.security_protocol.endswith("SSL") else None
    if settings.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            mechanism=settings.sasl_mechanism or "PLAIN",
            username=settings.sasl_username,
            password=_password(settings),
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings(f"kafka.ssl_ca_file: {settings.ssl_ca_file}: {error}") from None
    if settings.ssl_certificate_file:
        try:
            context.load_cert_chain(settings.ssl_certificate_file, settings.ssl_key_file, password="")
        except (OSError, ssl.SSLError) as error:
            problem = f"kafka.ssl_certificate_file, kafka.ssl_key_file: {settings.ssl_certificate_file}: {error}"
            raise InvalidSettings(problem) from None
    return context


def _password(settings: KafkaSettings) -> str | None:
    return settings.sasl_password.get_secret_value() if settings.sasl_password else None
