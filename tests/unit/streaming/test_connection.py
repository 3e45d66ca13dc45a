import ssl
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from monitor.config import KafkaSettings
from monitor.domain.errors import InvalidSettings
from monitor.streaming.connection import connect, faust_credentials
from tests.support.certificates import Authority

SASL = KafkaSettings(
    bootstrap_servers="a:1, b:2",
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username="groundwatch",
    sasl_password=SecretStr("secret"),
)


class Client:
    """Takes what a kafka-python client takes."""

    def __init__(self, **options: Any) -> None:
        self.options = options


def test_a_client_gets_every_security_setting() -> None:
    options = connect(Client, SASL, deadline_seconds=2.5).options
    assert options["bootstrap_servers"] == ["a:1", "b:2"]
    assert options["bootstrap_timeout_ms"] == 2500
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["sasl_plain_username"] == "groundwatch"
    assert options["sasl_plain_password"] == "secret"
    assert options["ssl_context"].check_hostname


def test_plain_text_sends_no_credentials() -> None:
    options = connect(Client, KafkaSettings(), deadline_seconds=1).options
    assert not {"ssl_context", "sasl_mechanism", "sasl_plain_password"} & set(options)
    assert faust_credentials(KafkaSettings()) is None


def test_faust_gets_the_same_credentials() -> None:
    credentials = faust_credentials(SASL)
    assert credentials.protocol.value == "SASL_SSL"
    assert (credentials.mechanism.value, credentials.username, credentials.password) == (
        "SCRAM-SHA-512",
        "groundwatch",
        "secret",
    )
    assert credentials.ssl_context.check_hostname
    assert faust_credentials(KafkaSettings(security_protocol="SSL")).context.check_hostname


def test_a_key_with_a_password_is_opened(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).issue("client", password=b"opened")
    files = {"security_protocol": "SSL", "ssl_certificate_file": certificate, "ssl_key_file": key}
    opened = KafkaSettings.model_validate({**files, "ssl_key_password": "opened"})
    assert connect(Client, opened, deadline_seconds=1).options["ssl_context"]
    for password in (None, "another"):
        settings = KafkaSettings.model_validate({**files, "ssl_key_password": password})
        with pytest.raises(InvalidSettings, match=r"kafka\.ssl_key_password") as raised:
            connect(Client, settings, deadline_seconds=1)
        assert "another" not in str(raised.value)


def test_a_brokers_name_is_checked_unless_told_otherwise_and_its_certificate_always() -> None:
    lenient = SASL.model_copy(update={"ssl_check_hostname": False})
    for context in (
        connect(Client, lenient, deadline_seconds=1).options["ssl_context"],
        faust_credentials(lenient).ssl_context,
    ):
        assert not context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
