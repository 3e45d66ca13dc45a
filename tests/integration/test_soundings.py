"""A backlog in several partitions, of which one is caught up with first: no minute is closed by that one alone."""

import gc
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from kafka import KafkaProducer
from sqlalchemy import Engine

from monitor.config import KafkaSettings, PostgresSettings, Settings, to_environment
from monitor.domain.errors import StreamUnavailable
from monitor.domain.trace import Origin
from monitor.domain.verdict import Assessment
from monitor.embedded.ports import free_port
from monitor.services.soundings import Soundings
from monitor.storage.closed_minutes import closed_minutes
from monitor.storage.engine import snapshot
from monitor.storage.partition_ends import positions
from monitor.storage.tables import intake
from monitor.streaming.ends import TopicEnds
from monitor.streaming.producer import Producer
from monitor.streaming.topics import topic_id
from monitor.wire import encode_assessment, encode_trace
from tests.examples.assessments import assessment, trace
from tests.integration.test_sidecar import SECONDS, eventually
from tests.support.processes import worker

EACH = 10
LATENESS = timedelta(seconds=30)


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def send_traces(settings: KafkaSettings, partition: int, count: int) -> None:
    with closing(KafkaProducer(bootstrap_servers=settings.bootstrap_servers)) as producer:
        for number in range(count):
            value = encode_trace(trace(f"{partition}-{number}"))
            producer.send(settings.traces_topic, key=b"k", value=value, partition=partition).get(SECONDS)


def judged(settings: KafkaSettings, partition: int) -> list[Assessment]:
    """One a minute, as a judge worker says it of all that lies in a partition."""
    life = topic_id(settings, settings.traces_topic)
    found = []
    for number in range(EACH):
        said = assessment(number, trace_id=f"{partition}-{number}", seconds_past_noon=60.0 * number)
        origin = Origin(
            topic=settings.traces_topic, topic_id=life, partition=partition, offset=number, high_watermark=EACH
        )
        found.append(replace(said, origin=origin))
    return found


def say(settings: KafkaSettings, assessments: Sequence[Assessment]) -> None:
    with closing(Producer(settings)) as producer:
        for one in assessments:
            producer.send(settings.judgements_topic, b"k", encode_assessment(one)).result(SECONDS)


def came_from(engine: Engine) -> list[int]:
    with snapshot(engine) as connection:
        return sorted(each.partition for each in positions(connection) if each.next_offset)


def closed(engine: Engine) -> list[int]:
    """Verdicts in each closed minute."""
    return [minute.total for minutes in closed_minutes(engine, lateness=LATENESS).values() for minute in minutes]


def test_the_ledger_worker_knows_what_waits_in_partitions_that_nothing_came_from(
    kafka_settings: KafkaSettings, postgres_url: str, engine: Engine, tmp_path: Path, exits: ExitStack
) -> None:
    for partition in (0, 1):
        send_traces(kafka_settings, partition, EACH)
    settings = Settings(kafka=kafka_settings, postgres=PostgresSettings(url=postgres_url))
    exits.callback(worker("ledger", tmp_path, to_environment(settings)).kill)
    say(kafka_settings, judged(kafka_settings, 0))
    eventually(lambda: came_from(engine) == [0])
    assert closed(engine) == []
    say(kafka_settings, judged(kafka_settings, 1))
    eventually(lambda: came_from(engine) == [0, 1])
    eventually(lambda: closed(engine) == [2] * (EACH - 2))


def test_the_ends_of_a_topic_are_told_again_and_again(kafka_settings: KafkaSettings) -> None:
    with closing(TopicEnds(kafka_settings, kafka_settings.traces_topic)) as ends:
        assert ends.read() == {0: 0, 1: 0, 2: 0}
        send_traces(kafka_settings, 1, 3)
        assert ends.read() == {0: 0, 1: 3, 2: 0}
        ends.close()
        assert ends.read() == {0: 0, 1: 3, 2: 0}
    with closing(TopicEnds(kafka_settings, "no-such-topic")) as ends:
        assert ends.read() == {}


# kafka-python leaves the sockets of refused connections to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_a_broker_verdicts_do_not_wait(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="kafka")  # pytest would keep the lines, and the sockets with them
    caplog.set_level(logging.WARNING, logger="monitor")
    ends = TopicEnds(KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}"), "topic", deadline_seconds=0.5)
    before = threading.active_count()
    with pytest.raises(StreamUnavailable, match="end of topic"):
        ends.read()
    assert threading.active_count() == before
    Soundings(engine, ends, log="topic").take()
    assert "the ends of the traces topic are not known" in caplog.text
    with snapshot(engine) as connection:
        assert connection.execute(intake.select()).all() == []
    gc.collect()


def test_a_broker_that_does_not_answer_is_left_alone_for_a_while(engine: Engine) -> None:
    asked = 0
    clock = {"now": 0.0}

    class Away:
        def read(self) -> dict[int, int]:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise StreamUnavailable("away")
            return {0: 7}

    soundings = Soundings(engine, Away(), log="topic", clock=lambda: clock["now"])
    for clock["now"] in (0.0, 1.0, 29.0):
        soundings.take()
        assert asked == 1
    clock["now"] = 30.0
    soundings.take()
    with snapshot(engine) as connection:
        assert [(each.log, each.partition, each.end) for each in positions(connection)] == [("topic", 0, 7)]
