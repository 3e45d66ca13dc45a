"""What a rule finds is nowhere: not in Kafka, not in the spools, not in Postgres, not in any log. All of it is real."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from monitor.config import JudgeSettings, KafkaSettings, PolicySettings, PostgresSettings, Settings, to_environment
from monitor.storage.engine import create_ledger_engine
from tests.integration.test_sidecar import eventually
from tests.support.processes import worker
from tests.support.secrets import (
    SECRET,
    hidden_in_json,
    secret_export,
    secret_export_json,
    secret_feedback,
    secret_trace,
)
from tests.support.sidecar_processes import Sidecars
from tests.support.topic_reader import read_records

SECONDS = 60
RULES = json.dumps([{"name": "badge", "regex": "badge-[0-9]{4}"}])
REDACTED = {
    "GROUNDWATCH_REDACTION__PATTERNS": '["email", "secret", "card", "iban"]',
    "GROUNDWATCH_REDACTION__RULES": RULES,
}
PLAIN = {"GROUNDWATCH_REDACTION__PATTERNS": "[]"}


@pytest.fixture
def settings(kafka_settings: KafkaSettings, postgres_url: str) -> Settings:
    return Settings(
        kafka=kafka_settings,
        postgres=PostgresSettings(url=SecretStr(postgres_url)),
        judge=JudgeSettings(batch_seconds=0.1),
        policy=PolicySettings(audit_share=0, escalate_unsure_share=0),
    )


def send(url: str) -> None:
    """Good requests, and bad ones whose refusals quote what was sent."""
    with httpx.Client(base_url=url, timeout=SECONDS) as client:
        assert client.post("/v1/rag/traces", json=[secret_trace(), hidden_in_json()]).status_code == 202
        assert client.post("/v1/feedback", json=secret_feedback()).status_code == 202
        protobuf, as_json = {"content-type": "application/x-protobuf"}, {"content-type": "application/json"}
        whole = secret_export().SerializeToString()
        assert client.post("/v1/traces", content=whole, headers=protobuf).status_code == 200
        assert client.post("/v1/traces", content=secret_export_json(), headers=as_json).status_code == 200
        bad = {**secret_trace(), **{secret: secret for secret in SECRET}, "documents": {SECRET[0]: SECRET[1]}}
        assert client.post("/v1/rag/traces", json=bad).status_code == 422
        assert client.post("/v1/rag/traces", content=f'{{"{SECRET[0]}'.encode(), headers=as_json).status_code == 400
        assert client.post("/v1/feedback", json={**secret_feedback(), "thumb": SECRET[1]}).status_code == 422
        assert client.post("/v1/traces", content=whole[:-40], headers=protobuf).status_code == 400
        large = {**secret_trace(), "trace_id": "large", "answer": f"{SECRET[0]} " * 100_000}
        assert client.post("/v1/rag/traces", json=large).status_code == 422


def found_in(raw: bytes) -> Counter[str]:
    return Counter({secret: raw.count(secret.encode()) for secret in SECRET if secret.encode() in raw})


def in_files(directory: Path, pattern: str) -> Counter[str]:
    return sum((found_in(path.read_bytes()) for path in directory.rglob(pattern) if path.is_file()), Counter())


def in_kafka(kafka: KafkaSettings) -> Counter[str]:
    topics = [getattr(kafka, name) for name in KafkaSettings.model_fields if name.endswith("_topic")]
    records = [record for topic in topics for record in read_records(kafka, topic)]
    assert records
    written = [repr((record.headers, record.key)).encode() + (record.value or b"") for record in records]
    # As the text that it is: a topic's JSON has escapes of its own.
    return found_in(b"\n".join(written).replace(b"\\\\", b"\\"))


def in_postgres(engine: Engine) -> Counter[str]:
    tables = "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname !~ '^(pg_|information_)'"
    with engine.connect() as connection:
        names = list(connection.execute(text(tables)).scalars())
        rows = [row for name in names for row in connection.execute(text(f"select t::text from {name} t")).scalars()]
    return found_in("\n".join(rows).replace("\\\\", "\\").encode())


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.parametrize("environment", [REDACTED, PLAIN], ids=["with rules", "without, to see that the search finds"])
def test_what_a_rule_finds_is_nowhere(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in {**environment, "GROUNDWATCH_SIDECAR__SPAN_SETTLE_SECONDS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GROUNDWATCH_KAFKA__FEEDBACK_TOPIC", settings.kafka.feedback_topic)
    engine = create_ledger_engine(settings.postgres, application_name="test")
    with ExitStack() as exits:
        exits.callback(engine.dispose)
        sidecars = Sidecars(tmp_path / "sidecar", settings.kafka)
        (tmp_path / "sidecar").mkdir()
        # Killed, not stopped: what it had on disk is there to be searched.
        sidecar = exits.enter_context(sidecars.start())
        send(sidecars.url)
        spooled = in_files(tmp_path / "sidecar", "*sqlite3*")
        for name in ("judge", "ledger"):
            exits.callback(worker(name, tmp_path, to_environment(settings)).kill)

        def all_ended() -> bool:
            with engine.connect() as connection:
                verdicts = connection.execute(text("select count(*) from verdicts")).scalar_one()
                said = connection.execute(text("select count(*) from feedback")).scalar_one()
            return bool(verdicts == 4 and said == 1)

        eventually(all_ended, seconds=SECONDS)
        spooled += in_files(tmp_path / "sidecar", "*sqlite3*")
        sidecar.kill()
        spooled += in_files(tmp_path / "sidecar", "*sqlite3*")
        places = {
            "spool": spooled,
            "Kafka": in_kafka(settings.kafka),
            "Postgres": in_postgres(engine),
            "logs": in_files(tmp_path, "*.log"),
        }
    if environment is REDACTED:
        assert places == {name: Counter() for name in places}
    else:
        assert {name for name, found in places.items() if found} >= {"spool", "Kafka", "Postgres"}
        assert set(places["spool"]) == set(SECRET)
