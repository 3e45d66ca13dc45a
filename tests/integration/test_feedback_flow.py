"""Feedback from a caller to SQL, through real processes: a sidecar, a broker, a ledger worker, Postgres."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from monitor.config import KafkaSettings, PostgresSettings, Settings, to_environment
from monitor.embedded.processes import Child
from monitor.storage.accounting import accounting
from monitor.storage.ledger import Ledger
from monitor.streaming.lag import end_offsets, group_lag
from monitor.streaming.producer import Producer
from monitor.streaming.topics import ledger_group
from tests.examples.assessments import assessment
from tests.integration.test_sidecar import SECONDS, Sidecars, eventually
from tests.support.processes import worker

ANSWERS = 30


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def settings(kafka_settings: KafkaSettings, postgres_url: str) -> Settings:
    return Settings(kafka=kafka_settings, postgres=PostgresSettings(url=postgres_url))


@pytest.fixture
def sidecars(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sidecars:
    monkeypatch.setenv("GROUNDWATCH_KAFKA__FEEDBACK_TOPIC", settings.kafka.feedback_topic)
    return Sidecars(tmp_path, settings.kafka)


def ledger_worker(settings: Settings, directory: Path, exits: ExitStack) -> Child:
    child = worker("ledger", directory, to_environment(settings))
    exits.callback(child.kill)
    return child


def send(url: str) -> None:
    """What 30 users say; each has an id, as whoever may have to send again should give."""
    said = [
        {"feedback_id": f"f-{n}", "tenant": "city", "trace_id": f"t-0-{n}", "thumb": "down"} for n in range(ANSWERS)
    ]
    response = httpx.post(f"{url}/v1/feedback", json=said, timeout=SECONDS)
    assert (response.status_code, response.json()["accepted"]) == (202, ANSWERS)


def on_topic(settings: Settings) -> int:
    return sum(end_offsets(settings.kafka, [settings.kafka.feedback_topic]).values())


def all_committed(settings: Settings) -> bool:
    lag = group_lag(settings.kafka, ledger_group(settings.kafka), [settings.kafka.feedback_topic])
    return all(partition.records == 0 for partition in lag)


def counted(engine: Engine, query: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar_one()


def kept(engine: Engine) -> int:
    return int(counted(engine, "select count(*) from feedback"))


def test_feedback_that_is_sent_twice_across_kills_is_counted_once(
    settings: Settings, sidecars: Sidecars, engine: Engine, tmp_path: Path, exits: ExitStack
) -> None:
    Ledger(engine).record([assessment(number, probability=0.9) for number in range(ANSWERS)])
    before = accounting(engine)
    sidecar = exits.enter_context(sidecars.start())
    send(sidecars.url)
    sidecar.kill()
    exits.enter_context(sidecars.start())
    send(sidecars.url)
    eventually(lambda: sidecars.status()["feedback"]["spool"]["records"] == 0)
    assert on_topic(settings) >= 2 * ANSWERS

    first = ledger_worker(settings, tmp_path, exits)
    eventually(lambda: kept(engine) > 0)
    first.kill()
    ledger_worker(settings, tmp_path, exits)
    eventually(lambda: all_committed(settings))
    assert kept(engine) == ANSWERS

    with engine.connect() as connection:
        day = connection.execute(text("select * from report.outcomes_per_day where label = 'hallucinated'")).one()
    assert (day.answers, day.with_feedback, day.thumbs_down, day.thumbs_up) == (ANSWERS, ANSWERS, ANSWERS, 0)
    assert accounting(engine) == before


def test_a_bad_record_on_the_topic_is_a_dead_letter_and_the_next_is_taken(
    settings: Settings, engine: Engine, tmp_path: Path, exits: ExitStack
) -> None:
    producer = Producer(settings.kafka)
    exits.callback(producer.close)
    good = {"feedback_id": "f", "time": "2026-03-01T12:00:00Z", "trace_id": "t", "outcome": "resolved"}
    for value in (b"\xff", json.dumps(good | {"thumb": "sideways"}).encode(), json.dumps(good).encode()):
        producer.send(settings.kafka.feedback_topic, b"k", value).result(SECONDS)
    ledger_worker(settings, tmp_path, exits)
    eventually(lambda: kept(engine) == 1)
    # They take a way of their own, over the topic of dead letters.
    reasons = 'select array_agg(reason order by "offset") from dead_letters'
    eventually(lambda: counted(engine, reasons) == ["not_json", "invalid"])
