"""The age limit: what is too old goes, in order, Kafka there or not; what is young stays."""

import logging
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitor.ingest.ageing import AgeLimit
from monitor.ingest.counters import Drop, Tally
from monitor.ingest.forward import Forwarder
from monitor.ingest.memory_producer import MemoryProducer
from monitor.ingest.spool import Spool
from tests.support.sidecars import MEBIBYTE, LocalSidecar, Seconds
from tests.unit.ingest.test_app import trace
from tests.unit.ingest.test_forward import QUICK, SECONDS, TOPIC, entries, eventually, sent
from tests.unit.ingest.test_sampling import PROTOBUF, export

HOUR = timedelta(hours=1)


class WallClock:
    def __init__(self) -> None:
        self.now = datetime(2026, 5, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def wall() -> WallClock:
    return WallClock()


@pytest.fixture
def spool(tmp_path: Path, wall: WallClock) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool", max_bytes=64 * MEBIBYTE, clock=wall)) as opened:
        yield opened


def forwarder(spool: Spool, producer: MemoryProducer, tally: Tally, wall: WallClock) -> Forwarder:
    limit = AgeLimit(spool, "traces", max_age=HOUR, counters=tally, now=wall)
    return Forwarder(spool, producer, topic=TOPIC, counters=tally, backoff=QUICK, age_limit=limit)


def test_the_disk_frees_itself_while_kafka_is_down_and_the_young_are_sent_when_it_is_back(
    spool: Spool, wall: WallClock
) -> None:
    spool.append(entries(*range(500))).result(SECONDS)
    producer, tally = MemoryProducer(down=True), Tally()
    sending = forwarder(spool, producer, tally, wall)
    sending.start()
    try:
        eventually(lambda: tally.retries_total > 2)
        assert (tally.drops, spool.acknowledged) == ({}, 0)
        wall.now += timedelta(minutes=59)
        spool.append(entries(*range(500, 800))).result(SECONDS)
        wall.now += timedelta(minutes=2)
        eventually(lambda: spool.acknowledged == 500)
        eventually(lambda: spool.state().records == 300)
        assert tally.drops == {"too_old": 500}
        producer.down = False
        eventually(lambda: spool.acknowledged == 800)
    finally:
        sending.stop(drain_seconds=0)
    # Kafka may be back in the middle of a batch: what was behind the failure comes twice.
    assert set(producer.records) == set(sent(*range(500, 800)))
    assert (tally.drops, tally.forwarded_total) == ({"too_old": 500}, 300)


def test_the_next_sidecar_drops_what_the_last_one_left(tmp_path: Path, wall: WallClock) -> None:
    with closing(Spool(tmp_path / "spool", max_bytes=64 * MEBIBYTE, clock=wall)) as first:
        first.append(entries(1, 2, 3)).result(SECONDS)
    wall.now += 2 * HOUR
    with closing(Spool(tmp_path / "spool", max_bytes=64 * MEBIBYTE, clock=wall)) as spool:
        spool.append(entries(4)).result(SECONDS)
        producer, tally = MemoryProducer(), Tally()
        sending = forwarder(spool, producer, tally, wall)
        sending.start()
        eventually(lambda: spool.acknowledged == 4)
        sending.stop(drain_seconds=0)
    assert (producer.records, tally.drops) == (sent(4), {"too_old": 3})


def test_without_a_limit_nothing_is_ever_too_old(spool: Spool, wall: WallClock) -> None:
    spool.append(entries(1)).result(SECONDS)
    wall.now += timedelta(days=10_000)
    limit = AgeLimit(spool, "traces", max_age=None, counters=Tally(), now=wall)
    assert limit.passed(0) == (0, 0)


def test_order_goes_before_age_when_the_wall_clock_was_set_back(spool: Spool, wall: WallClock) -> None:
    spool.append(entries(1)).result(SECONDS)
    wall.now -= timedelta(days=1)
    spool.append(entries(2)).result(SECONDS)
    wall.now += timedelta(days=1)
    limit = AgeLimit(spool, "traces", max_age=HOUR, counters=Tally(), now=wall)
    assert limit.passed(0) == (0, 0)  # the first is young, and the second waits behind it
    assert limit.passed(1) == (1, 2)


def test_no_more_is_looked_through_at_once_than_is_asked_for(spool: Spool, wall: WallClock) -> None:
    spool.append(entries(*range(10))).result(SECONDS)
    assert spool.spooled_before(wall.now + HOUR, after=2, limit=5) == (5, 7)
    assert spool.spooled_before(wall.now, after=0) == (0, 0)


def test_a_burst_is_logged_once_a_minute_with_its_count(
    spool: Spool, wall: WallClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock, tally = Seconds(), Tally()
    limit = AgeLimit(spool, "traces", max_age=HOUR, counters=tally, now=wall, clock=clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            limit.drop(3)
        clock.now += 60
        limit.drop(1)
    assert [record.getMessage() for record in caplog.records] == [
        "3 traces waited for longer than 1:00:00 and are dropped",
        "298 traces waited for longer than 1:00:00 and are dropped",
    ]
    assert tally.drops == {Drop.TOO_OLD: 301}


@pytest.fixture
def sidecar(tmp_path: Path, wall: WallClock) -> Iterator[LocalSidecar]:
    with closing(LocalSidecar(tmp_path, now=wall, max_age=HOUR)) as running:
        yield running


def test_exports_that_nobody_assembled_are_dropped_and_those_begun_are_finished(
    sidecar: LocalSidecar, wall: WallClock
) -> None:
    assert sidecar.export(export(1), PROTOBUF).status_code == 200
    sidecar.assembler.step()  # its spans are in memory now, and wait for more
    for number in (2, 3):
        assert sidecar.export(export(number), PROTOBUF).status_code == 200
    wall.now += timedelta(hours=2)
    assert sidecar.export(export(4), PROTOBUF).status_code == 200
    found = sidecar.assembled()
    assert [int(one["trace_id"][-14:], 16) * 100 // (1 << 56) for one in found] == [0, 3]
    status = sidecar.client.get("/v1/status").json()
    assert status["dropped"] == {"too_old": 2}
    assert sidecar.exports.acknowledged == sidecar.exports.durable == 4


def test_the_status_tells_how_old_the_oldest_is_and_what_was_dropped(sidecar: LocalSidecar, wall: WallClock) -> None:
    sidecar.kafka.down = True
    sidecar.post(trace())
    wall.now += timedelta(minutes=30)
    assert sidecar.client.get("/v1/status").json()["spool"]["oldest_seconds"] == 1800
    sidecar.forwarder.start()
    wall.now += timedelta(minutes=31)
    eventually(lambda: sidecar.client.get("/v1/status").json()["dropped"] == {"too_old": 1})
    eventually(lambda: sidecar.client.get("/v1/status").json()["spool"]["oldest_seconds"] is None)
    sidecar.forwarder.stop(drain_seconds=0)
