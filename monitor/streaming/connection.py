"""How our clients reach Kafka: one place for addresses and credentials."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import faust
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.net.selector import NetworkSelector
from pydantic import SecretStr

from monitor.config import KafkaSettings
from monitor.domain.errors import InvalidSettings, StreamUnavailable
from monitor.streaming.connecting import Connections
from monitor.streaming.refusal import Refused

_SETUP_MS = 10_000
"""For a connection and its handshakes, as kafka-python has it; never more than the deadline."""

_connections: WeakKeyDictionary[Any, Connections] = WeakKeyDictionary()


def connect(kind: Callable[..., Any], settings: KafkaSettings, *, deadline_seconds: float, **options: Any) -> Any:
    """Make a kafka-python client (`KafkaProducer`, …) that has reached Kafka.

    Raises:
        Refused: the brokers do not let us in, or we do not trust them; a KafkaError.
        KafkaError: no broker answered within the deadline. Unlike kafka-python's own constructors, this then
            leaves no I/O thread behind, and may be tried again all day.
        InvalidSettings: a file for TLS cannot be used.
    """
    opened: list[tuple[KafkaNetClient, Connections]] = []

    def open_client(**configuration: Any) -> KafkaNetClient:
        net = NetworkSelector(**configuration)
        setup = {"socket_connection_setup_timeout_ms": min(_SETUP_MS, int(deadline_seconds * 1000))}
        connections = Connections(net, **{**configuration, **setup})
        opened.append((KafkaNetClient(net=net, manager=connections), connections))
        return opened[-1][0]

    try:
        client = kind(
            **_client_options(settings),
            bootstrap_timeout_ms=int(deadline_seconds * 1000),
            kafka_client=open_client,
            **options,
        )
    except BaseException as error:
        for opening, connections in opened:
            opening.close()
            if isinstance(error, KafkaError) and connections.refusal:
                raise Refused(connections.refusal) from error
        raise
    for _, connections in opened:
        _connections[client] = connections
    return client


@contextmanager
def connected(
    kind: Callable[..., Any], settings: KafkaSettings, about: str, *, deadline_seconds: float, **options: Any
) -> Iterator[Any]:
    """The same for a while; `about` begins the message.

    Raises:
        StreamUnavailable: Kafka cannot be reached, did not let us in, or refused what was asked of it.
        InvalidSettings: a file for TLS cannot be used.
    """
    client = None
    try:
        client = connect(kind, settings, deadline_seconds=deadline_seconds, **options)
        with closing(client):
            yield client
    except KafkaError as error:
        raise StreamUnavailable(f"{about}: {refusal(client) or error}") from error


def refusal(client: Any) -> str | None:
    """Why a broker does not let a client in that others did let in; None where none is known to refuse it."""
    connections = _connections.get(client) if client is not None else None
    return connections.refusal if connections else None


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
        options["sasl_plain_password"] = _opened(settings.sasl_password)
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
            password=_opened(settings.sasl_password),
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings(f"kafka.ssl_ca_file: {settings.ssl_ca_file}: {error}") from None
    context.check_hostname = settings.ssl_check_hostname
    if settings.ssl_certificate_file:
        # Never None, or the process would ask the terminal for one.
        password = _opened(settings.ssl_key_password) or ""
        try:
            context.load_cert_chain(settings.ssl_certificate_file, settings.ssl_key_file, password=password)
        except (OSError, ssl.SSLError) as error:
            names = "kafka.ssl_certificate_file, kafka.ssl_key_file, kafka.ssl_key_password"
            raise InvalidSettings(f"{names}: {settings.ssl_certificate_file}: {error}") from None
    return context


def _opened(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
