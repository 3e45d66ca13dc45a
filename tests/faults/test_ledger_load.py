"""Rollups and accounting stay exact however often the ledger worker and Postgres die under load."""

import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from monitor.benchmarks.ledger_load import Traffic
from monitor.config import KafkaSettings, LedgerSettings, PostgresSettings, Settings, to_environment
from monitor.domain.errors import LedgerUnavailable
from monitor.embedded.postgres import EmbeddedPostgres, embedded_postgres
from monitor.embedded.processes import Child
from monitor.storage.accounting import accounting
from monitor.storage.engine import create_ledger_engine, transaction
from monitor.storage.migrate import upgrade
from monitor.storage.verifying import Verification
from monitor.streaming.producer import Producer
from tests.support.processes import worker

LOAD = int(os.environ.get("GROUNDWATCH_LEDGER_LOAD", "12000"))
"""Verdicts; 200,000 before a release."""

KILLS = 5
DEADLINE = 240.0 + LOAD / 500


@pytest.fixture
def server(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """One of this test's own, because it crashes."""
    with embedded_postgres(server_directory / "crashing") as made:
        upgrade(made.url())
        yield made


def send(settings: KafkaSettings) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    traffic = Traffic(verdicts=LOAD, since=noon, until=noon + timedelta(hours=4))
    producer = Producer(settings, delivery_seconds=60)
    for batch in traffic.batches(2000):
        # All of a partition of traces go to one partition of judgements, as by their keys.
        sent = [
            producer.send(settings.judgements_topic, str(record.partition).encode(), record.value) for record in batch
        ]
        for receipt in sent:
            receipt.result(60)
    producer.close()


def written(engine: Engine) -> int:
    """Verdicts so far; -1 while Postgres is away."""
    try:
        with transaction(engine) as connection:
            return int(connection.execute(text("select coalesce(sum(verdicts), 0) from intake")).scalar_one())
    except LedgerUnavailable:
        return -1


def until(engine: Engine, count: int, ledger: Child) -> None:
    deadline = time.monotonic() + DEADLINE
    while written(engine) < count:
        assert ledger.returncode is None, ledger.log_tail()
        assert time.monotonic() < deadline, f"{written(engine)} of {count}"
        time.sleep(0.02)


@pytest.mark.timeout(DEADLINE + 300)
def test_five_kills_of_the_worker_and_five_of_postgres(
    kafka_settings: KafkaSettings, server: EmbeddedPostgres, tmp_path: Path
) -> None:
    settings = Settings(
        kafka=kafka_settings,
        postgres=PostgresSettings(url=SecretStr(server.url())),
        ledger=LedgerSettings(batch_size=500, batch_seconds=0.1),
    )
    send(settings.kafka)
    engine = create_ledger_engine(settings.postgres)
    chance = random.Random(LOAD)
    moments = sorted(chance.sample(range(1, LOAD * 9 // 10), 2 * KILLS))
    victims = chance.sample(["ledger", "postgres"] * KILLS, 2 * KILLS)

    def start() -> Child:
        return worker("ledger", tmp_path, to_environment(settings))

    ledger = start()
    try:
        for moment, victim in zip(moments, victims, strict=True):
            until(engine, moment, ledger)
            time.sleep(chance.uniform(0, 0.2))
            if victim == "ledger":
                ledger.kill()
                ledger = start()
            else:
                server.crash()
                server.start()
        until(engine, LOAD, ledger)
    finally:
        ledger.kill()
    counted = accounting(engine)
    assert (counted.verdicts, counted.accepted) == (LOAD, LOAD)
    assert (counted.in_flight, counted.lost, counted.duplicates, counted.dead_letters) == (0, 0, 0, 0)
    verification = Verification(engine, since=None, until=None)
    assert [found for step in verification.steps() if (found := step.recount()).total] == []
    engine.dispose()
