"""A backlog in several partitions, of which one is caught up with first: no minute is closed by that one alone."""

import gc
import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.structs import OffsetAndTimestamp
from sqlalchemy import Engine

from monitor.config import KafkaSettings, PostgresSettings, Settings, to_environment
from monitor.domain.errors import StreamUnavailable
from monitor.domain.trace import Origin, topic_log
from monitor.domain.verdict import Assessment
from monitor.embedded.ports import free_port
from monitor.services.soundings import Soundings
from monitor.storage.closed_minutes import closed_minutes
from monitor.storage.engine import snapshot
from monitor.storage.partition_positions import positions
from monitor.streaming.extents import Extents, TopicExtents
from monitor.streaming.producer import Producer
from monitor.streaming.topics import topic_id
from monitor.wire import encode_assessment, encode_trace
from tests.examples.assessments import assessment, trace
from tests.integration.test_sidecar import SECONDS, eventually
from tests.kafka.server import ApacheKafka
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


def come(engine: Engine) -> dict[int, int]:
    """How far the ledger has come in each partition that something came from."""
    with snapshot(engine) as connection:
        return {each.partition: each.next_offset for each in positions(connection) if each.next_offset}


def sounded(engine: Engine) -> list[tuple[str, int, int | None]]:
    with snapshot(engine) as connection:
        return [(each.log, each.partition, each.ending) for each in positions(connection)]


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
    eventually(lambda: come(engine) == {0: EACH})
    assert [partition for _, partition, ending in sounded(engine) if ending] == [0, 1]
    assert closed(engine) == []
    say(kafka_settings, judged(kafka_settings, 1))
    eventually(lambda: come(engine) == {0: EACH, 1: EACH})
    assert closed(engine) == [2] * (EACH - 2)


def test_what_lies_in_a_topic_is_told_again_and_again(kafka_settings: KafkaSettings) -> None:
    name = kafka_settings.traces_topic
    life = topic_id(kafka_settings, name)
    empty = Extents(log=topic_log(name, life), offsets=dict.fromkeys(range(3), range(0)))
    with closing(TopicExtents(kafka_settings, name)) as topic:
        assert topic.read() == empty
        send_traces(kafka_settings, 1, 3)
        filled = replace(empty, offsets={**empty.offsets, 1: range(3)})
        assert topic.read() == filled
        topic.close()
        assert topic.read() == filled
    with closing(TopicExtents(kafka_settings, "no-such-topic")) as topic, pytest.raises(StreamUnavailable):
        topic.read()


@pytest.mark.apache_kafka
def test_records_that_have_expired_are_not_there(kafka_settings: KafkaSettings) -> None:
    send_traces(kafka_settings, 2, 5)
    place = TopicPartition(kafka_settings.traces_topic, 2)
    with closing(KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)) as admin:
        admin.delete_records({place: 3})
    with closing(TopicExtents(kafka_settings, kafka_settings.traces_topic)) as topic:
        assert topic.read().offsets == {0: range(0), 1: range(0), 2: range(3, 5)}


@pytest.mark.apache_kafka
# kafka-python leaves the sockets of refused connections to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_first_question_after_an_outage_is_answered(
    kafka_settings: KafkaSettings, apache_kafka: ApacheKafka, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="kafka")  # pytest would keep the lines, and the sockets with them
    with closing(TopicExtents(kafka_settings, kafka_settings.traces_topic)) as topic:
        before = topic.read()
        apache_kafka.stop()
        time.sleep(15)  # the outage itself: the client tries in vain to connect, each time after a longer pause
        apache_kafka.start()
        assert topic.read() == before
    gc.collect()


class Brokers:
    """An admin client of brokers of which one is away: no test here can have several."""

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        partitions = [{"partition_index": number, "leader_id": leader} for number, leader in ((0, 1), (1, -1))]
        return [{"name": names[0], "error_code": 0, "topic_id": None, "partitions": partitions}]

    def list_partition_offsets(self, specs: dict[TopicPartition, OffsetSpec], *, timeout_ms: int) -> dict[Any, Any]:
        assert timeout_ms == 5000
        offsets = {OffsetSpec.EARLIEST: 2, OffsetSpec.LATEST: 9}
        return {place: OffsetAndTimestamp(offsets[spec], -1, -1) for place, spec in specs.items()}

    def close(self) -> None:
        pass


def test_a_partition_without_a_leader_may_have_anything_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.streaming.extents.connect", lambda *_, **__: Brokers())
    assert TopicExtents(KafkaSettings(), "topic").read() == Extents(log="topic", offsets={0: range(2, 9), 1: None})


def test_a_connection_that_does_not_answer_is_replaced_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Brokers):
        def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
            if self is made[0] and asked.append(names) is None and len(asked) > 1:
                raise RuntimeError("the selector is closed")
            return super().describe_topics(names)

    made: list[Gone] = []
    asked: list[list[str]] = []
    monkeypatch.setattr("monitor.streaming.extents.connect", lambda *_, **__: made.append(Gone()) or made[-1])
    topic = TopicExtents(KafkaSettings(), "topic")
    assert topic.read() == topic.read()
    assert len(made) == 2


# kafka-python leaves the sockets of refused connections to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_a_broker_verdicts_do_not_wait(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="kafka")  # pytest would keep the lines, and the sockets with them
    caplog.set_level(logging.WARNING, logger="monitor")
    nowhere = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    topic = TopicExtents(nowhere, "topic", deadline_seconds=0.5)
    before = threading.active_count()
    with pytest.raises(StreamUnavailable, match="offsets of topic"):
        topic.read()
    assert threading.active_count() == before
    Soundings(engine, topic).take()
    assert "what lies in the traces topic is not known" in caplog.text
    assert sounded(engine) == []
    gc.collect()


# Likewise.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_a_broker_that_lets_in_and_says_nothing_has_a_deadline(
    protocol: Literal["PLAINTEXT", "SSL"], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="kafka")
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = KafkaSettings(bootstrap_servers=address, security_protocol=protocol)
        topic = TopicExtents(settings, "topic", deadline_seconds=0.5)
        with ThreadPoolExecutor(1) as thread, pytest.raises(StreamUnavailable, match="offsets of topic"):
            thread.submit(topic.read).result(SECONDS)
    gc.collect()


class Away:
    """Answers the first question, and then not before the fourth."""

    topic = "topic"

    def __init__(self) -> None:
        self.asked = 0

    def read(self) -> Extents:
        self.asked += 1
        if self.asked in (2, 3):
            raise StreamUnavailable("away")
        return Extents(log="topic", offsets={0: range(7)})


def test_a_broker_that_does_not_answer_is_asked_ever_more_seldom(engine: Engine) -> None:
    clock = {"now": 0.0}
    away = Away()
    soundings = Soundings(engine, away, clock=lambda: clock["now"])
    soundings.take()
    assert sounded(engine) == [("topic", 0, 7)]
    for clock["now"], asked in ((0.0, 2), (0.9, 2), (1.0, 3), (2.9, 3)):
        soundings.take()
        assert (away.asked, sounded(engine)) == (asked, [("topic", 0, None)])
    clock["now"] = 3.0
    soundings.take()
    assert sounded(engine) == [("topic", 0, 7)]
