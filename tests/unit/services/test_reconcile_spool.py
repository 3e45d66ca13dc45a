"""What a stopped sidecar left: looked at without a change, sent in order, forgotten once Kafka has it."""

import hashlib
import shutil
from pathlib import Path
from threading import Event

import pytest

from monitor.config import KafkaSettings
from monitor.domain.errors import SpoolUnavailable, StreamUnavailable
from monitor.ingest.forward import DAMAGED
from monitor.ingest.memory_producer import MemoryProducer
from monitor.ingest.spool import Spool
from monitor.ingest.spool_file import FILE_NAME
from monitor.ingest.spool_records import Entry
from monitor.services.reconcile import Sending
from monitor.services.reconcile_spool import Shelf, empty_shelves, look_at_shelves

KAFKA = KafkaSettings()
TRACES = KAFKA.traces_topic


def entries(*numbers: int, size: int = 0) -> list[Entry]:
    return [Entry(key=f"city|t-{n}".encode(), value=f"value {n}".encode().ljust(size)) for n in numbers]


def spooled(directory: Path, written: list[Entry]) -> None:
    spool = Spool(directory, max_bytes=1 << 24)
    spool.append(written).result(10)
    spool.close()


def sending(producer: MemoryProducer, *, rate: float = 1e6, stop: Event | None = None) -> Sending:
    return Sending(producer, rate=rate, stop=stop or Event())


def emptied(root: Path, producer: MemoryProducer) -> dict[str, Shelf]:
    """The last word on each spool, by its directory's name."""
    return {one.directory.name: one for one in empty_shelves(root, KAFKA, sending=sending(producer))}


def digests(directory: Path) -> dict[str, str]:
    # The index of the log is made by whoever reads it, and holds nothing of its own.
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and not path.name.endswith("-shm"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("killed", [False, True])
def test_what_waits_is_counted_and_named_and_nothing_is_changed(tmp_path: Path, *, killed: bool) -> None:
    home = tmp_path / "home"
    spool = Spool(home, max_bytes=1 << 24)
    spool.append(entries(*range(7))).result(10)
    if killed:
        # As a killed process leaves it: what it wrote lies in the log only.
        shutil.copytree(home, tmp_path / "left")
        spool.close()
    else:
        spool.close()
        home.rename(tmp_path / "left")
    left = tmp_path / "left"
    before = digests(left)
    assert (f"{FILE_NAME}-wal" in before) is killed
    [shelf] = look_at_shelves(left, KAFKA)
    assert (shelf.waiting, shelf.sendable, shelf.stays) == (7, 7, False)
    assert shelf.keys == tuple(f"city|t-{n}" for n in range(5))
    assert digests(left) == before
    producer = MemoryProducer()
    assert emptied(left, producer)["left"].waiting == 7
    assert producer.records == [(TRACES, one.key, one.value) for one in entries(*range(7))]
    assert list(look_at_shelves(left, KAFKA)) == []


def test_what_was_set_aside_goes_first_and_what_is_refused_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1 << 24)
    spool.append(entries(*range(4))).result(10)
    for position, reason in ((1, "too large"), (2, DAMAGED), (3, "too large")):
        spool.set_aside(position, reason)
    spool.acknowledge(3)
    spool.append([*entries(9, size=100), *entries(5)]).result(10)
    spool.close()
    producer = MemoryProducer(largest=50)
    [shelf] = emptied(tmp_path, producer).values()
    assert (shelf.whole, shelf.waiting, shelf.damaged, shelf.refused, shelf.stays) == (2, 2, 1, 1, True)
    assert [value for _, _, value in producer.records] == [b"value 0", b"value 2", b"value 3", b"value 5"]
    # What Kafka refused now is set aside, with why, as a sidecar would have done.
    [shelf] = look_at_shelves(tmp_path, KAFKA)
    assert (shelf.whole, shelf.waiting, shelf.damaged) == (1, 0, 1)
    roomy = MemoryProducer()
    assert emptied(tmp_path, roomy)[tmp_path.name].whole == 1
    assert [key for _, key, _ in roomy.records] == [b"city|t-9"]


def test_what_kafka_did_not_acknowledge_is_still_there(tmp_path: Path) -> None:
    spooled(tmp_path, entries(*range(6)))
    producer = MemoryProducer()
    producer.fails_after = 4
    with pytest.raises(StreamUnavailable):
        emptied(tmp_path, producer)
    producer.down, producer.fails_after = False, None
    emptied(tmp_path, producer)
    sent = [key for _, key, _ in producer.records]
    assert list(dict.fromkeys(sent)) == [one.key for one in entries(*range(6))]
    assert list(look_at_shelves(tmp_path, KAFKA)) == []


def test_of_what_was_set_aside_each_is_forgotten_once_kafka_has_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1 << 24)
    spool.append(entries(*range(3))).result(10)
    for position in (1, 2, 3):
        spool.set_aside(position, "too large")
    spool.acknowledge(3)
    spool.close()
    producer = MemoryProducer()
    producer.fails_after = 2
    with pytest.raises(StreamUnavailable):
        emptied(tmp_path, producer)
    producer.down, producer.fails_after = False, None
    assert emptied(tmp_path, producer)[tmp_path.name].whole == 1
    assert [key for _, key, _ in producer.records] == [one.key for one in entries(*range(3))]


def test_it_stops_between_two_chunks_and_goes_on(tmp_path: Path) -> None:
    spooled(tmp_path, entries(*range(25)))
    producer, stop = MemoryProducer(), Event()
    steps = empty_shelves(tmp_path, KAFKA, sending=sending(producer, rate=10, stop=stop))
    assert next(steps).waiting == 10
    stop.set()
    assert list(steps) == []
    assert len(producer.records) == 10
    assert emptied(tmp_path, producer)[tmp_path.name].waiting == 15
    assert [key for _, key, _ in producer.records] == [one.key for one in entries(*range(25))]


def test_each_spool_has_its_topic_and_exports_stay(tmp_path: Path) -> None:
    for number, name in enumerate(("", "assembled", "feedback", "spans")):
        spooled(tmp_path / name, entries(number))
    producer = MemoryProducer()
    done = emptied(tmp_path, producer)
    assert [topic for topic, _, _ in producer.records] == [TRACES, TRACES, KAFKA.feedback_topic]
    assert (done["spans"].sendable, done["spans"].stays) == (0, True)
    [exports] = look_at_shelves(tmp_path, KAFKA)
    assert (exports.directory.name, exports.waiting) == ("spans", 1)


def test_a_damaged_file_is_left_alone_until_it_is_to_be_emptied(tmp_path: Path) -> None:
    spooled(tmp_path, entries(*range(400), size=2000))
    path = tmp_path / FILE_NAME
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2 // 8192 * 8192
    raw[middle : middle + 8192] = b"\xff" * 8192
    path.write_bytes(raw)
    before = digests(tmp_path)
    [shelf] = look_at_shelves(tmp_path, KAFKA)
    assert (shelf.broken, shelf.kept_as) == (True, None)
    assert digests(tmp_path) == before
    producer = MemoryProducer()
    [shelf] = emptied(tmp_path, producer).values()
    assert (shelf.broken, shelf.stays) == (True, True)
    assert shelf.kept_as == tmp_path / f"{FILE_NAME}.damaged-1"
    sent = [key for _, key, _ in producer.records]
    assert 300 < len(sent) < 400
    assert sorted(set(sent), key=sent.index) == sent
    assert shelf.waiting == len(sent)
    assert list(look_at_shelves(tmp_path, KAFKA)) == []


def test_a_running_sidecar_is_not_disturbed(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1 << 24)
    for look in (lambda: list(look_at_shelves(tmp_path, KAFKA)), lambda: emptied(tmp_path, MemoryProducer())):
        with pytest.raises(SpoolUnavailable, match="in use by another sidecar"):
            look()
    spool.close()


def test_a_spool_of_a_later_release_is_not_read(tmp_path: Path) -> None:
    spooled(tmp_path, entries(0))
    path = tmp_path / FILE_NAME
    raw = bytearray(path.read_bytes())
    raw[60:64] = (9).to_bytes(4, "big")
    path.write_bytes(raw)
    with pytest.raises(SpoolUnavailable, match="has format 9; this groundwatch knows 1"):
        list(look_at_shelves(tmp_path, KAFKA))
