"""The drift and the alert worker as real processes, from verdicts in Postgres to an alert on Kafka."""

import json
import os
from pathlib import Path

from sqlalchemy import Engine, select

from monitor.config import KafkaSettings
from monitor.storage.engine import transaction
from monitor.storage.ledger import Ledger
from monitor.storage.tables import outbox
from tests.examples.assessments import assessment
from tests.support.processes import worker
from tests.support.topic_reader import read_all

DEADLINE_SECONDS = 60.0


def states(engine: Engine) -> list[str]:
    with transaction(engine) as connection:
        return list(connection.execute(select(outbox.c.state)).scalars())


def enqueued(engine: Engine) -> bool:
    return bool(states(engine))


def delivered(engine: Engine) -> bool:
    return set(states(engine)) == {"delivered"}


def test_two_workers_turn_verdicts_into_an_alert_and_stop_when_told(
    engine: Engine, ledger: Ledger, postgres_url: str, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    # Twenty verdicts a minute: every tenth hallucinated for an hour, then every second.
    labels = [index % 10 == 0 for index in range(1200)] + [index % 2 == 0 for index in range(600)]
    ledger.record(
        [
            assessment(index, probability=0.9 if label else 0.1, seconds_past_noon=index * 3)
            for index, label in enumerate(labels)
        ]
    )
    environment = {
        **os.environ,
        "GROUNDWATCH_POSTGRES__URL": postgres_url,
        "GROUNDWATCH_KAFKA__BOOTSTRAP_SERVERS": kafka_settings.bootstrap_servers,
        "GROUNDWATCH_KAFKA__ALERTS_TOPIC": kafka_settings.alerts_topic,
        "GROUNDWATCH_DRIFT__BASELINE_VERDICTS": "400",
        "GROUNDWATCH_DRIFT__ALLOWED_LATENESS_SECONDS": "0",
        "GROUNDWATCH_DRIFT__POLL_SECONDS": "0.2",
        "GROUNDWATCH_ALERTS__POLL_SECONDS": "0.2",
        # The drift worker leaves the alert pending, and the alert worker lets it fire.
        "GROUNDWATCH_ALERTS__PENDING_SECONDS": "0.5",
        "GROUNDWATCH_ALERTS__TEND_SECONDS": "0.2",
    }
    with (
        worker("drift", tmp_path, environment) as drift,
        worker("alerts", tmp_path, environment) as alerts,
    ):
        drift.wait_until(lambda: enqueued(engine), deadline_seconds=DEADLINE_SECONDS)
        alerts.wait_until(lambda: delivered(engine), deadline_seconds=DEADLINE_SECONDS)
        assert [drift.stop(), alerts.stop()] == [0, 0]
    (value,) = read_all(kafka_settings, kafka_settings.alerts_topic)
    message = json.loads(value)
    assert message["segment"] == {"tenant": "city", "service": "help-desk", "environment": "production"}
    assert (message["state"], message["notification"]) == ("firing", "state")
