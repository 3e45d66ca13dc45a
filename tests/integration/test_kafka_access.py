"""Kafka as production has it: Apache Kafka over TLS, with passwords and certificates, and what a wrong one comes to."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest

from monitor.config import KafkaSettings, Settings, to_environment
from monitor.domain.errors import InvalidSettings, StreamUnavailable
from monitor.embedded.processes import Child
from monitor.streaming.lag import group_lag
from monitor.streaming.producer import Producer
from monitor.streaming.topics import ensure_topics, topic_id
from tests.kafka.secured import KEY_PASSWORD, MECHANISMS, PASSWORD, SecuredKafka
from tests.support.certificates import Authority
from tests.support.processes import worker
from tests.support.sidecar_processes import Sidecars
from tests.support.topic_reader import read_all

pytestmark = [pytest.mark.kafka, pytest.mark.apache_kafka]

SECONDS = 60.0
WRONG = "not-the-password"
BATCH_WORKER = Path(__file__).parents[1] / "support" / "batch_worker.py"
TRACE = {
    "trace_id": "t",
    "service": "s",
    "question": "When?",
    "documents": [{"id": "d", "text": "The office opens at nine."}],
    "answer": "At nine.",
}

Build = Callable[[SecuredKafka, Path], dict[str, Any]]
"""What is wrong with settings."""


def wrong_password(_: SecuredKafka, __: Path) -> dict[str, Any]:
    return {"sasl_password": WRONG}


def wrong_plain_password(_: SecuredKafka, __: Path) -> dict[str, Any]:
    return {"sasl_mechanism": "PLAIN", "sasl_password": WRONG}


def unknown_authority(_: SecuredKafka, directory: Path) -> dict[str, Any]:
    return {"ssl_ca_file": Authority(directory, "another").certificate}


def wrong_host_name(kafka: SecuredKafka, _: Path) -> dict[str, Any]:
    return {"bootstrap_servers": kafka.address("SECURED", host="127.0.0.1")}


def wrong_host_name_behind_a_right_one(kafka: SecuredKafka, _: Path) -> dict[str, Any]:
    return {"bootstrap_servers": kafka.address("ELSEWHERE")}


def no_certificate(kafka: SecuredKafka, _: Path) -> dict[str, Any]:
    return {"bootstrap_servers": kafka.address("MUTUAL"), "security_protocol": "SSL"}


def no_tls(_: SecuredKafka, __: Path) -> dict[str, Any]:
    return {"security_protocol": "SASL_PLAINTEXT"}


def tls_where_there_is_none(kafka: SecuredKafka, _: Path) -> dict[str, Any]:
    return {"bootstrap_servers": kafka.server.address}


def missing_authority(_: SecuredKafka, directory: Path) -> dict[str, Any]:
    return {"ssl_ca_file": directory / "missing.pem"}


WRONGS: dict[Build, tuple[str, str]] = {
    wrong_password: ("SASL: authentication failed", "kafka.sasl_password"),
    wrong_plain_password: ("SASL: authentication failed", "kafka.sasl_password"),
    unknown_authority: ("TLS: certificate verify failed: unable to get local issuer", "kafka.ssl_ca_file"),
    wrong_host_name: ("TLS: certificate verify failed: IP address mismatch", "kafka.ssl_check_hostname"),
    wrong_host_name_behind_a_right_one: ("certificate verify failed: IP address mismatch", "kafka.ssl_check_hostname"),
    no_certificate: ("TLS: ", "kafka.ssl_certificate_file"),
    no_tls: ("only over TLS", "kafka.security_protocol"),
    tls_where_there_is_none: ("TLS: ", "kafka.security_protocol"),
    missing_authority: ("No such file", "kafka.ssl_ca_file"),
}


@pytest.fixture(scope="module")
def kafka(server_directory: Path) -> Iterator[SecuredKafka]:
    directory = Path(tempfile.mkdtemp(dir=server_directory, prefix="secured-"))
    kafka = SecuredKafka(directory)
    kafka.server.start()
    yield kafka
    kafka.server.stop()


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def right_settings(kafka: SecuredKafka, means: str) -> KafkaSettings:
    """Over topics of the test's own."""
    if means != "certificate":
        return kafka.settings(sasl_mechanism=means, **topics())
    certificate, key = kafka.client
    return kafka.settings(
        bootstrap_servers=kafka.address("MUTUAL"),
        security_protocol="SSL",
        ssl_certificate_file=certificate,
        ssl_key_file=key,
        ssl_key_password=KEY_PASSWORD,
        **topics(),
    )


def topics() -> dict[str, str]:
    kinds = ("traces", "judgements", "dead_letters", "feedback", "alerts")
    return {f"{kind}_topic": f"{token_hex(4)}.{kind}" for kind in kinds}


def on_topic(kafka: SecuredKafka, settings: KafkaSettings) -> list[bytes]:
    """Read by the listener that asks for nothing."""
    plain = KafkaSettings(bootstrap_servers=kafka.server.address)
    return read_all(plain, settings.traces_topic)


@pytest.mark.parametrize("means", [*MECHANISMS, "certificate"])
def test_all_our_clients_are_let_in(kafka: SecuredKafka, means: str, tmp_path: Path) -> None:
    right = right_settings(kafka, means)
    ensure_topics(right)
    assert topic_id(right, right.traces_topic)
    producer = Producer(right)
    producer.send(right.traces_topic, b"k", b"value").result(SECONDS)
    producer.close()
    group = token_hex(4)
    command = [sys.executable, str(BATCH_WORKER), group, right.traces_topic, str(tmp_path)]
    environment = to_environment(Settings(kafka=right))
    with Child("batch worker", command, log=tmp_path / "worker.log", environment=environment) as consumer:
        done = tmp_path / "done"
        consumer.wait_until(lambda: done.exists() and "value" in done.read_text(), deadline_seconds=SECONDS)
        consumer.wait_until(lambda: lag(right, group) == [(1, 1)], deadline_seconds=SECONDS)
    assert on_topic(kafka, right) == [b"value"]


def lag(settings: KafkaSettings, group: str) -> list[tuple[int | None, int]]:
    return [(one.committed, one.end) for one in group_lag(settings, group, [settings.traces_topic])]


@pytest.mark.parametrize("means", ["PLAIN", "SCRAM-SHA-256"])
def test_a_sidecar_delivers(kafka: SecuredKafka, means: str, tmp_path: Path, exits: ExitStack) -> None:
    right = right_settings(kafka, means)
    sidecars = Sidecars(tmp_path, right)
    child = exits.enter_context(sidecars.start())
    send(sidecars)
    child.wait_until(lambda: sidecars.status()["forwarded"] == 1, deadline_seconds=SECONDS)
    assert sidecars.status()["kafka"]["problem"] is None
    assert len(on_topic(kafka, right)) == 1


@pytest.mark.parametrize(
    "wrong",
    [wrong_password, unknown_authority, wrong_host_name, wrong_host_name_behind_a_right_one, missing_authority],
    ids=lambda wrong: wrong.__name__,
)
def test_a_sidecar_that_is_not_let_in_keeps_what_it_accepted_and_says_why(
    kafka: SecuredKafka, wrong: Build, tmp_path: Path, exits: ExitStack
) -> None:
    right, (reason, setting) = kafka.settings(**topics()), WRONGS[wrong]
    refused = Sidecars(tmp_path, right.model_validate({**dict(right), **wrong(kafka, tmp_path)}))
    child = exits.enter_context(refused.start())
    send(refused)
    child.wait_until(lambda: reason in (refused.status()["kafka"]["problem"] or ""), deadline_seconds=SECONDS)
    standing = refused.status()
    assert setting in standing["kafka"]["problem"]
    assert (standing["kafka"]["state"], standing["spool"]["records"]) == ("down", 1)
    child.stop(grace_seconds=SECONDS)
    for secret in (PASSWORD, WRONG, KEY_PASSWORD):
        assert secret not in child.log.read_text() + str(standing)
    assert "Traceback" not in child.log.read_text()

    mended = Sidecars(tmp_path, right)
    child = exits.enter_context(mended.start())
    child.wait_until(lambda: mended.status()["spool"]["records"] == 0, deadline_seconds=SECONDS)
    assert len(on_topic(kafka, right)) == 1


def send(sidecars: Sidecars) -> None:
    assert httpx.post(f"{sidecars.url}/v1/rag/traces", json=TRACE, timeout=SECONDS).status_code == 202


def test_without_the_check_of_its_name_a_broker_is_still_held_to_its_authority(
    kafka: SecuredKafka, tmp_path: Path
) -> None:
    misnamed = {"ssl_check_hostname": False, **wrong_host_name(kafka, tmp_path)}
    ensure_topics(kafka.settings(**misnamed, **topics()))
    with pytest.raises(StreamUnavailable, match="unable to get local issuer"):
        ensure_topics(kafka.settings(**misnamed, **unknown_authority(kafka, tmp_path)))


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: wrong.__name__)
def test_every_client_names_the_setting(kafka: SecuredKafka, wrong: Build, tmp_path: Path) -> None:
    settings, (reason, setting) = kafka.settings(**{**topics(), **wrong(kafka, tmp_path)}), WRONGS[wrong]
    producer = Producer(settings, delivery_seconds=5.0, connect_seconds=5.0)
    for attempt in (
        lambda: ensure_topics(settings, ["t"]),
        lambda: group_lag(settings, "g", ["t"], timeout_seconds=5.0),
        lambda: producer.send("t", b"k", b"v").result(SECONDS),
    ):
        with pytest.raises((StreamUnavailable, InvalidSettings)) as raised:
            attempt()
        assert reason in str(raised.value)
        assert setting in str(raised.value)
        assert WRONG not in str(raised.value)
    producer.close(timeout=1)


def test_a_worker_that_is_not_let_in_waits_and_names_the_setting(kafka: SecuredKafka, tmp_path: Path) -> None:
    settings = kafka.settings(sasl_password=WRONG, **topics())
    with worker("ledger", tmp_path, to_environment(Settings(kafka=settings))) as child:
        child.wait_until(lambda: "kafka.sasl_password" in child.log.read_text(), deadline_seconds=SECONDS)
        assert "SASL: authentication failed" in child.log.read_text()
        assert WRONG not in child.log.read_text()
        assert child.returncode is None


def test_status_names_the_setting(kafka: SecuredKafka) -> None:
    settings = Settings(kafka=kafka.settings(sasl_password=WRONG))
    command = [str(Path(sys.executable).with_name("groundwatch")), "status"]
    shown = subprocess.run(
        command, env=to_environment(settings), capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert shown.returncode == 1
    assert "SASL: authentication failed" in shown.stdout
    assert "kafka.sasl_password" in shown.stdout
    assert WRONG not in shown.stdout + shown.stderr
