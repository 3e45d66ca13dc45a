"""The reading end of a spool, in this process; another process reads in tests/integration/test_sidecar.py."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from monitor.domain.errors import SpoolUnavailable
from monitor.ingest.spool import Spool
from monitor.ingest.spool_file import FILE_NAME
from monitor.ingest.spool_records import Entry
from monitor.ingest.spool_source import SpoolSource
from monitor.ingest.spool_tail import SpoolTail

SECONDS = 10
LIMIT = 1 << 26


def entries(*numbers: int) -> list[Entry]:
    return [Entry(key=b"k%d" % number, value=b"%d:" % number + b"x" * 500) for number in numbers]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path, max_bytes=LIMIT)) as opened:
        yield opened


def tail_of(spool: Spool, directory: Path) -> SpoolTail:
    return SpoolTail(directory, acknowledge=spool.acknowledge, set_aside=spool.set_aside, damaged=spool.report_damage)


@pytest.fixture(params=["itself", "tail"])
def source(request: pytest.FixtureRequest, spool: Spool, tmp_path: Path) -> Iterator[SpoolSource]:
    if request.param == "itself":
        yield spool
    else:
        with closing(tail_of(spool, tmp_path)) as opened:
            yield opened


def test_reads_in_order_what_the_writer_appends(spool: Spool, source: SpoolSource) -> None:
    spool.append(entries(1, 2, 3)).result(SECONDS)
    assert source.wait(0, seconds=SECONDS)
    first = source.read(0, limit=2)
    spool.append(entries(4)).result(SECONDS)
    rest = source.read(first[-1].position, limit=10)

    assert [record.entry for record in first + rest] == entries(1, 2, 3, 4)
    assert all(record.intact for record in first + rest)
    assert source.durable == 4


def test_waiting_ends_when_there_is_something_or_time_is_up(spool: Spool, source: SpoolSource) -> None:
    assert not source.wait(0, seconds=0)
    spool.append(entries(1)).result(SECONDS)
    assert source.wait(0, seconds=SECONDS)
    assert not source.wait(1, seconds=0.05)


def test_what_is_acknowledged_is_forgotten_by_the_writer(spool: Spool, source: SpoolSource, tmp_path: Path) -> None:
    spool.append(entries(1, 2, 3)).result(SECONDS)
    source.acknowledge(2)
    assert source.acknowledged == 2
    spool.append(entries(4)).result(SECONDS)

    assert [record.position for record in source.read(0, limit=10)] == [3, 4]
    with closing(tail_of(spool, tmp_path)) as another:
        assert another.acknowledged == 2


def test_set_aside_keeps_a_copy(spool: Spool, source: SpoolSource) -> None:
    spool.append(entries(1, 2)).result(SECONDS)
    source.set_aside(1, "too large")
    source.acknowledge(1)
    spool.append(entries(3)).result(SECONDS)
    assert spool.state().aside == 1


def test_an_emptied_spool_is_read_on_from_where_it_was(spool: Spool, tmp_path: Path) -> None:
    spool.append(entries(1, 2)).result(SECONDS)
    spool.acknowledge(2)
    spool.append(entries(3)).result(SECONDS)
    spool.acknowledge(3)
    spool.close()
    with closing(Spool(tmp_path, max_bytes=LIMIT)) as again, closing(tail_of(again, tmp_path)) as tail:
        assert tail.acknowledged == 3
        again.append(entries(4)).result(SECONDS)
        assert [record.position for record in tail.read(tail.acknowledged, limit=10)] == [4]


def test_goes_on_in_the_file_that_takes_a_damaged_ones_place(spool: Spool, tmp_path: Path) -> None:
    spool.append(entries(1, 2)).result(SECONDS)
    with closing(tail_of(spool, tmp_path)) as tail:
        assert len(tail.read(0, limit=10)) == 2
        spool.report_damage(spool._file.inode)
        spool.append(entries(3)).result(SECONDS)
        assert [record.entry for record in tail.read(0, limit=10)] == entries(1, 2, 3)
    assert spool.salvaged is not None


def test_tells_the_writer_of_a_damaged_file_once(spool: Spool, tmp_path: Path) -> None:
    spool.append(entries(*range(2000))).result(SECONDS)
    told: list[int] = []
    tail = SpoolTail(tmp_path, acknowledge=spool.acknowledge, set_aside=spool.set_aside, damaged=told.append)
    with closing(tail):
        inode = spool._file.inode
        spool.close()
        tail.close()
        with (tmp_path / FILE_NAME).open("r+b") as file:
            size = file.seek(0, 2)
            for page in range(2, size // 8192):
                file.seek(page * 8192)
                file.write(b"\xff" * 100)
        with pytest.raises(SpoolUnavailable, match="cannot be read"):
            tail.read(0, limit=5000, max_bytes=LIMIT)
        assert told == [inode]


def test_a_report_of_a_file_that_was_replaced_already_is_ignored(spool: Spool, tmp_path: Path) -> None:
    spool.append(entries(1)).result(SECONDS)
    spool.report_damage((spool._file.inode or 0) + 1)
    spool.append(entries(2)).result(SECONDS)
    assert spool.salvaged is None


def test_a_spool_that_is_not_there_is_named(tmp_path: Path, spool: Spool) -> None:
    with pytest.raises(SpoolUnavailable, match="nowhere"):
        tail_of(spool, tmp_path / "nowhere")


def test_a_checkpoint_moves_the_log_into_the_file(spool: Spool, tmp_path: Path) -> None:
    spool.append(entries(*range(500))).result(SECONDS)
    before = (tmp_path / FILE_NAME).stat().st_size
    with closing(tail_of(spool, tmp_path)) as tail:
        tail.checkpoint()
    assert (tmp_path / FILE_NAME).stat().st_size > before
