import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from monitor.domain.errors import RecordRefused, StreamUnavailable
from monitor.ingest.counters import NoCounters, Tally
from monitor.ingest.forward import Backoff, Forwarder, KafkaState, RecordProducer
from monitor.ingest.memory_producer import MemoryProducer
from monitor.ingest.spool import Spool
from monitor.ingest.spool_file import FILE_NAME
from monitor.ingest.spool_records import Entry

TOPIC = "rag.traces.v1"
SECONDS = 10.0
QUICK = Backoff(first_seconds=0.005, limit_seconds=0.02)


def entries(*numbers: int) -> list[Entry]:
    return [Entry(key=b"t|%d" % n, value=b"value %d" % n) for n in numbers]


def sent(*numbers: int) -> list[tuple[str, bytes, bytes]]:
    return [(TOPIC, e.key, e.value) for e in entries(*numbers)]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool", max_bytes=64 * 1024 * 1024)) as opened:
        yield opened


@pytest.fixture
def start(spool: Spool) -> Iterator[Callable[..., Forwarder]]:
    started: list[Forwarder] = []

    def make(producer: RecordProducer, **options: Any) -> Forwarder:
        options = {"counters": NoCounters(), "backoff": QUICK, **options}
        forwarder = Forwarder(spool, producer, topic=TOPIC, **options)
        forwarder.start()
        started.append(forwarder)
        return forwarder

    yield make
    for forwarder in started:
        forwarder.stop(drain_seconds=0)


Start = Callable[..., Forwarder]


def test_sends_in_order_what_waited_and_what_comes(spool: Spool, start: Start) -> None:
    spool.append(entries(*range(10))).result(SECONDS)
    producer, tally = MemoryProducer(), Tally()
    forwarder = start(producer, counters=tally)
    spool.append(entries(*range(10, 3000))).result(SECONDS)

    eventually(lambda: spool.acknowledged == 3000)

    assert producer.records == sent(*range(3000))
    eventually(lambda: tally.forwarded_total == 3000)
    eventually(lambda: forwarder.state().kafka is KafkaState.UP)
    eventually(lambda: spool.state().records == 0)


def test_kafka_down_loses_nothing_and_is_told_of(spool: Spool, start: Start) -> None:
    producer, tally = MemoryProducer(down=True), Tally()
    forwarder = start(producer, counters=tally)
    spool.append(entries(*range(5))).result(SECONDS)

    eventually(lambda: tally.retries_total >= 3)
    state = forwarder.state()
    assert (state.kafka, state.problem) == (KafkaState.DOWN, "no broker")
    assert spool.state().records == 5

    producer.down = False
    eventually(lambda: spool.acknowledged == 5)
    assert producer.records == sent(*range(5))
    eventually(lambda: forwarder.state().kafka is KafkaState.UP)
    assert forwarder.state().problem is None


def test_an_outage_in_mid_flight_repeats_records_but_skips_none(spool: Spool, start: Start) -> None:
    producer = MemoryProducer()
    producer.fails_after = 7
    spool.append(entries(*range(20))).result(SECONDS)
    start(producer)
    eventually(lambda: producer.down)
    producer.down = False

    eventually(lambda: spool.acknowledged == 20)

    firsts = list(dict.fromkeys(producer.records))
    assert firsts == sent(*range(20))


class _Unordered:
    """Delivers nothing by itself: the test resolves the receipts, in whatever order."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, bytes]] = []
        self.receipts: list[Future[Any]] = []

    def send(self, topic: str, key: bytes, value: bytes) -> "Future[Any]":
        self.records.append((topic, key, value))
        self.receipts.append(Future())
        return self.receipts[-1]


def test_acknowledges_only_what_is_delivered_without_a_gap(spool: Spool, start: Start) -> None:
    producer = _Unordered()
    spool.append(entries(*range(4))).result(SECONDS)
    start(producer)
    eventually(lambda: len(producer.receipts) == 4)

    for number in (1, 2, 3):
        producer.receipts[number].set_result(None)
    assert spool.acknowledged == 0
    producer.receipts[0].set_result(None)
    eventually(lambda: spool.acknowledged == 4)


def test_a_refused_record_is_set_aside_and_blocks_nothing(spool: Spool, start: Start, tmp_path: Path) -> None:
    tally = Tally()
    producer = MemoryProducer(largest=100)
    big = Entry(key=b"t|big", value=b"x" * 101)
    spool.append([*entries(0, 1), big, *entries(2, 3)]).result(SECONDS)
    start(producer, counters=tally)

    eventually(lambda: spool.acknowledged == 5)

    assert producer.records == sent(0, 1, 2, 3)
    assert tally.set_aside_total == 1
    eventually(lambda: spool.state().aside == 1)
    with closing(sqlite3.connect(tmp_path / "spool" / FILE_NAME)) as connection:
        rows = connection.execute("select key, value, reason from aside").fetchall()
    assert rows == [(big.key, big.value, "101 bytes; at most 100 are allowed")]


class _RefusesTogether(MemoryProducer):
    """As a broker does with a batch that is too large, although each of its records would fit."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = 3

    def send(self, topic: str, key: bytes, value: bytes) -> "Future[Any]":
        if self.refusals == 0:
            return super().send(topic, key, value)
        self.refusals -= 1
        receipt: Future[Any] = Future()
        receipt.set_exception(RecordRefused("the batch is too large"))
        return receipt


def test_records_refused_as_a_batch_are_sent_again_one_by_one(spool: Spool, start: Start) -> None:
    producer, tally = _RefusesTogether(), Tally()
    spool.append(entries(0, 1, 2)).result(SECONDS)
    start(producer, counters=tally)

    eventually(lambda: spool.acknowledged == 3)

    assert producer.records == sent(0, 1, 2)
    assert tally.set_aside_total == 0


def test_a_damaged_record_is_set_aside_and_blocks_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "damaged"
    with closing(Spool(directory, max_bytes=1 << 26)) as spool:
        spool.append(entries(0, 1, 2)).result(SECONDS)
    path = directory / FILE_NAME
    path.write_bytes(path.read_bytes().replace(b"value 1", b"value X"))
    producer, tally = MemoryProducer(), Tally()
    with closing(Spool(directory, max_bytes=1 << 26)) as spool:
        forwarder = Forwarder(spool, producer, topic=TOPIC, counters=tally, backoff=QUICK)
        forwarder.start()
        eventually(lambda: spool.acknowledged == 3)
        assert forwarder.stop(drain_seconds=SECONDS)
    assert producer.records == sent(0, 2)
    assert tally.set_aside_total == 1


def test_prepares_until_it_succeeds_and_again_after_an_outage(spool: Spool, start: Start) -> None:
    calls: list[int] = []

    def prepare() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise StreamUnavailable("no broker yet")

    producer = MemoryProducer()
    start(producer, prepare=prepare)
    spool.append(entries(0)).result(SECONDS)
    eventually(lambda: spool.acknowledged == 1)
    spool.append(entries(1)).result(SECONDS)
    eventually(lambda: spool.acknowledged == 2)
    assert len(calls) == 3

    producer.down = True
    spool.append(entries(2)).result(SECONDS)
    eventually(lambda: len(calls) > 3)
    producer.down = False
    eventually(lambda: producer.records == sent(0, 1, 2))


class _Defective(MemoryProducer):
    def __init__(self) -> None:
        super().__init__()
        self.defects = 2

    def send(self, topic: str, key: bytes, value: bytes) -> "Future[Any]":
        if self.defects:
            self.defects -= 1
            raise ZeroDivisionError
        return super().send(topic, key, value)


def test_a_defect_does_not_end_the_thread(spool: Spool, start: Start) -> None:
    producer = _Defective()
    start(producer)
    spool.append(entries(0)).result(SECONDS)
    eventually(lambda: producer.records == sent(0))


def test_stopping_drains_when_kafka_is_up(spool: Spool, start: Start) -> None:
    producer = MemoryProducer()
    forwarder = start(producer)
    spool.append(entries(*range(2500))).result(SECONDS)

    assert forwarder.stop(drain_seconds=SECONDS)
    assert producer.records == sent(*range(2500))


def test_stopping_leaves_on_disk_what_kafka_does_not_take(spool: Spool, start: Start) -> None:
    forwarder = start(MemoryProducer(down=True))
    spool.append(entries(0, 1)).result(SECONDS)
    eventually(lambda: forwarder.state().kafka is KafkaState.DOWN)

    assert not forwarder.stop(drain_seconds=0.5)
    assert spool.state().records == 2


def test_stopping_does_not_wait_past_its_deadline_for_a_silent_broker(spool: Spool) -> None:
    producer = _Unordered()
    forwarder = Forwarder(spool, producer, topic=TOPIC, counters=NoCounters(), backoff=QUICK)
    forwarder.start()
    spool.append(entries(0)).result(SECONDS)
    eventually(lambda: len(producer.receipts) == 1)

    done = threading.Event()
    threading.Thread(target=lambda: (forwarder.stop(drain_seconds=0.1), done.set()), daemon=True).start()
    assert done.wait(SECONDS)
    assert spool.state().records == 1
    producer.receipts[0].set_result(None)


def test_back_off_doubles_to_its_limit_with_half_left_to_chance() -> None:
    slow = Backoff(first_seconds=0.2, limit_seconds=10.0, chance=lambda: 1.0)
    fast = Backoff(first_seconds=0.2, limit_seconds=10.0, chance=lambda: 0.0)

    assert [slow.seconds(n) for n in (1, 2, 3)] == pytest.approx([0.2, 0.4, 0.8])
    assert [fast.seconds(n) for n in (1, 2, 3)] == pytest.approx([0.1, 0.2, 0.4])
    assert slow.seconds(7) == slow.seconds(1_000_000) == 10.0
