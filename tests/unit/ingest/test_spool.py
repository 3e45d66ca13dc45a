import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitor.domain.errors import SpoolFull, SpoolUnavailable
from monitor.ingest.spool import Spool
from monitor.ingest.spool_file import FILE_NAME, SpoolFile
from monitor.ingest.spool_records import Entry
from tests.support.collectors import until

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LIMIT = 64 * 1024 * 1024
SECONDS = 10


def entry(number: int, size: int = 200) -> Entry:
    return Entry(key=b"t|%d" % number, value=b"%d:" % number + b"x" * size)


def entries(*numbers: int) -> list[Entry]:
    return [entry(number) for number in numbers]


def everything(spool: Spool) -> list[Entry]:
    return [spooled.entry for spooled in spool.read(spool.acknowledged, limit=100_000, max_bytes=LIMIT)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(directory: Path) -> Iterator[Spool]:
    with closing(Spool(directory, max_bytes=LIMIT, clock=lambda: NOW)) as opened:
        yield opened


def test_reads_back_in_order_what_was_appended(spool: Spool) -> None:
    for number in range(20):
        spool.append(entries(number)).result(SECONDS)

    first = spool.read(0, limit=5)
    rest = spool.read(first[-1].position, limit=100)

    assert [s.entry for s in first + rest] == entries(*range(20))
    assert [s.position for s in first + rest] == list(range(1, 21))
    assert all(s.intact for s in first + rest)


def test_a_read_stops_once_its_bytes_are_passed_but_always_moves_on(spool: Spool) -> None:
    spool.append([entry(n, size=1000) for n in range(10)]).result(SECONDS)

    assert len(spool.read(0, limit=10, max_bytes=2500)) == 3
    assert len(spool.read(0, limit=10, max_bytes=1)) == 1


def test_concurrent_appends_are_all_kept_and_each_request_stays_in_order(spool: Spool) -> None:
    def send(sender: int) -> None:
        for number in range(50):
            spool.append(entries(sender * 1000 + number)).result(SECONDS)

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(SECONDS)

    found = [int(e.key.split(b"|")[1]) for e in everything(spool)]
    assert sorted(found) == sorted(s * 1000 + n for s in range(8) for n in range(50))
    for sender_number in range(8):
        own = [number for number in found if number // 1000 == sender_number]
        assert own == sorted(own)


def test_what_is_not_acknowledged_is_there_after_a_restart_and_nothing_else(directory: Path) -> None:
    with closing(Spool(directory, max_bytes=LIMIT)) as first:
        first.append(entries(*range(10))).result(SECONDS)
        first.acknowledge(4)
    with closing(Spool(directory, max_bytes=LIMIT)) as second:
        assert second.acknowledged == 4
        assert everything(second) == entries(*range(4, 10))
        second.acknowledge(10)
    with closing(Spool(directory, max_bytes=LIMIT)) as third:
        assert everything(third) == []
        third.append(entries(99)).result(SECONDS)
        # A position is never given out twice: readers and records set aside refer to it.
        assert [s.position for s in third.read(0, limit=10)] == [11]


def test_two_sidecars_never_share_a_directory(directory: Path, spool: Spool) -> None:
    with pytest.raises(SpoolUnavailable, match="in use by another sidecar"):
        Spool(directory, max_bytes=LIMIT)


def test_a_directory_that_cannot_be_made_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolUnavailable, match="file/spool"):
        Spool(tmp_path / "file" / "spool", max_bytes=LIMIT)


def test_the_spool_belongs_to_its_owner_alone(directory: Path, spool: Spool) -> None:
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_file_of_a_newer_format_is_left_alone(directory: Path) -> None:
    Spool(directory, max_bytes=LIMIT).close()
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        connection.execute("pragma user_version = 99")
    with pytest.raises(SpoolUnavailable, match="format 99"):
        Spool(directory, max_bytes=LIMIT)
    assert [path.name for path in directory.glob("*damaged*")] == []


def test_full_refuses_keeps_what_it_has_and_takes_again_once_drained(directory: Path) -> None:
    limit = 2 * 1024 * 1024
    with closing(Spool(directory, max_bytes=limit)) as spool:
        kept = _appended_until_full(spool)
        with pytest.raises(SpoolFull, match=str(limit)):
            spool.append([entry(1, size=20_000)])
        assert 50 < kept < 105
        assert (directory / FILE_NAME).stat().st_size <= limit + 1024 * 1024
        found = spool.read(0, limit=1000, max_bytes=LIMIT)
        assert len(found) == kept
        assert spool.state().bytes <= limit

        spool.acknowledge(found[-1].position)
        drained = threading.Event()
        for _ in range(200):
            if spool.state().bytes < limit // 4:
                break
            drained.wait(0.05)
        spool.append([entry(1, size=20_000)]).result(SECONDS)
        assert spool.problem is None
        assert spool.state().records == 1


def _appended_until_full(spool: Spool) -> int:
    for number in range(1000):
        try:
            spool.append([entry(number, size=20_000)]).result(SECONDS)
        except SpoolFull:
            return number
    return 1000


def test_an_append_is_all_or_nothing(directory: Path) -> None:
    with closing(Spool(directory, max_bytes=1024 * 1024)) as spool:
        with pytest.raises(SpoolFull):
            spool.append([entry(n, size=100_000) for n in range(20)])
        assert everything(spool) == []


def test_a_closed_spool_takes_nothing(directory: Path) -> None:
    spool = Spool(directory, max_bytes=LIMIT)
    pending = spool.append(entries(1))
    spool.close()

    assert pending.result(0) is None
    assert spool.problem == "the spool is closed"
    with pytest.raises(SpoolUnavailable, match="closed"):
        spool.append(entries(2))


def test_set_aside_keeps_a_copy_after_the_record_is_acknowledged(directory: Path) -> None:
    with closing(Spool(directory, max_bytes=LIMIT, clock=lambda: NOW)) as spool:
        spool.append(entries(1, 2, 3)).result(SECONDS)
        spool.set_aside(2, "too large")
        spool.acknowledge(3)
    with closing(Spool(directory, max_bytes=LIMIT)) as spool:
        assert everything(spool) == []
        assert spool.state().aside == 1
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        rows = connection.execute("select position, reason, set_aside_at, key, value from aside").fetchall()
    assert rows == [(2, "too large", int(NOW.timestamp() * 1000), entry(2).key, entry(2).value)]


def test_state_tells_what_waits(spool: Spool) -> None:
    assert spool.state().oldest is None
    spool.append(entries(1, 2)).result(SECONDS)

    state = spool.state()

    assert (state.records, state.aside, state.oldest, state.problem) == (2, 0, NOW, None)
    assert 0 < state.bytes < state.max_bytes == LIMIT


def test_waiting_ends_when_a_record_is_durable_or_time_is_up(spool: Spool) -> None:
    assert not spool.wait(0, seconds=0)
    threading.Timer(0.05, lambda: spool.append(entries(1))).start()
    assert spool.wait(0, seconds=SECONDS)
    assert not spool.wait(1, seconds=0.01)


def test_drained_space_is_given_back(directory: Path) -> None:
    with closing(SpoolFile(directory, max_bytes=LIMIT, sync=False)) as file:
        file.commit(append=[entry(n, size=10_000) for n in range(1000)], aside=[], acknowledged=0, now=NOW)
        file.commit(append=[], aside=[], acknowledged=1000, now=NOW)
        file.measure()
        full = file.used_bytes
        for _ in range(20):
            file.shrink()
    assert full < 1024 * 1024
    assert (directory / FILE_NAME).stat().st_size < 2 * 1024 * 1024


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """The files of a spool as a SIGKILL leaves them: nine records acknowledged one by one, and never closed."""
    file = SpoolFile(tmp_path / "running", max_bytes=LIMIT, sync=True)
    for number in range(9):
        file.commit(append=entries(number), aside=[], acknowledged=0, now=NOW)
    shutil.copytree(tmp_path / "running", tmp_path / "crashed")
    file.close()
    return tmp_path / "crashed"


def reopened(directory: Path) -> list[Entry]:
    with closing(SpoolFile(directory, max_bytes=LIMIT, sync=False)) as file:
        assert file.salvaged is None
        found = file.read(0, limit=100, max_bytes=LIMIT)
        assert all(spooled.intact for spooled in found)
        return [spooled.entry for spooled in found]


def test_a_crash_loses_nothing(crashed: Path) -> None:
    assert reopened(crashed) == entries(*range(9))


def test_a_write_torn_anywhere_in_the_last_record_loses_that_record_alone(crashed: Path, tmp_path: Path) -> None:
    log = (crashed / f"{FILE_NAME}-wal").read_bytes()
    before = _log_length_of(8, tmp_path)
    assert before < len(log)
    # Each byte of the frames' headers and edges, and of their payload every 61st: each length costs milliseconds.
    frame = 8192 + 24
    lengths = [
        n for n in range(before, len(log)) if (n - before) % 61 == 0 or not 40 < (n - before) % frame < frame - 8
    ]
    for length in lengths:
        assert _readable(tmp_path, crashed / FILE_NAME, log[:length]) == 8, f"torn at byte {length}"
    assert _readable(tmp_path, crashed / FILE_NAME, log) == 9


def _readable(tmp_path: Path, database: Path, log: bytes) -> int:
    # With SQLite alone: the sidecar's own way of opening takes ten times as long.
    torn = tmp_path / "torn.sqlite3"
    shutil.copy(database, torn)
    torn.with_name("torn.sqlite3-wal").write_bytes(log)
    with closing(sqlite3.connect(torn)) as connection:
        connection.execute("pragma synchronous = off")
        assert connection.execute("pragma quick_check").fetchone() == ("ok",)
        values = [row[0] for row in connection.execute("select value from records order by position")]
    assert values == [entry(number).value for number in range(len(values))]
    return len(values)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.99])
def test_a_sidecar_goes_on_behind_a_torn_write(crashed: Path, tmp_path: Path, share: float) -> None:
    path = crashed / f"{FILE_NAME}-wal"
    log, before = path.read_bytes(), _log_length_of(8, tmp_path)
    path.write_bytes(log[: before + int(share * (len(log) - before))])
    with closing(Spool(crashed, max_bytes=LIMIT)) as spool:
        assert everything(spool) == entries(*range(8))
        spool.append(entries(8)).result(SECONDS)
        assert everything(spool) == entries(*range(9))


def _log_length_of(commits: int, tmp_path: Path) -> int:
    with closing(SpoolFile(tmp_path / "measured", max_bytes=LIMIT, sync=True)) as file:
        for number in range(commits):
            file.commit(append=entries(number), aside=[], acknowledged=0, now=NOW)
        return (tmp_path / "measured" / f"{FILE_NAME}-wal").stat().st_size


def test_garbage_after_the_last_record_is_ignored(crashed: Path) -> None:
    with (crashed / f"{FILE_NAME}-wal").open("ab") as log:
        log.write(os.urandom(10_000))
    assert reopened(crashed) == entries(*range(9))


def test_a_flipped_bit_in_a_value_is_reported_with_its_record(directory: Path) -> None:
    with closing(Spool(directory, max_bytes=LIMIT)) as spool:
        spool.append(entries(*range(5))).result(SECONDS)
    content = bytearray((directory / FILE_NAME).read_bytes())
    content[content.index(b"2:xxx") + 50] ^= 1
    (directory / FILE_NAME).write_bytes(content)

    with closing(Spool(directory, max_bytes=LIMIT)) as spool:
        assert [s.intact for s in spool.read(0, limit=10)] == [True, True, False, True, True]


def _damage_a_page_of_records(directory: Path) -> None:
    path = directory / FILE_NAME
    content = bytearray(path.read_bytes())
    at = content.index(b"700:x") // 8192 * 8192
    content[at : at + 8192] = b"\xff" * 8192
    path.write_bytes(content)


def test_a_broken_page_costs_its_own_records_and_the_file_is_kept(directory: Path) -> None:
    with closing(Spool(directory, max_bytes=LIMIT)) as spool:
        spool.append(entries(*range(2000))).result(SECONDS)
    _damage_a_page_of_records(directory)

    with closing(Spool(directory, max_bytes=LIMIT)) as spool:
        with pytest.raises(SpoolUnavailable, match="cannot be read"):
            spool.read(0, limit=2000, max_bytes=LIMIT)
        spool.append(entries(5000)).result(SECONDS)
        found = everything(spool)
        salvaged = spool.salvaged

    assert salvaged is not None
    assert salvaged.kept_as.exists()
    lost = set(range(2000)) - {int(e.key.split(b"|")[1]) for e in found}
    assert 700 in lost
    assert len(lost) < 60
    assert found == entries(*(n for n in range(2000) if n not in lost), 5000)
    assert salvaged.records == 2000 - len(lost)


def test_a_file_that_is_no_database_is_kept_and_replaced(directory: Path) -> None:
    directory.mkdir()
    (directory / FILE_NAME).write_bytes(b"not a database at all " * 1000)
    with closing(Spool(directory, max_bytes=LIMIT)) as spool:
        spool.append(entries(1)).result(SECONDS)
        assert everything(spool) == entries(1)
        assert spool.salvaged is not None
        assert spool.salvaged.kept_as.read_bytes().startswith(b"not a database")


def test_all_that_one_commit_was_for_are_woken_by_one_call_behind_the_last_answer(spool: Spool) -> None:
    stalled, told = threading.Event(), threading.Event()
    woken: list[list[bool]] = []
    futures = []

    def wake() -> None:
        woken.append([future.done() for future in futures])
        told.set()

    # While the writer answers this one, the others come together.
    spool.append(entries(0)).add_done_callback(lambda _: stalled.wait(SECONDS))
    until(lambda: spool.durable == 1)
    futures += [spool.append(entries(number), wake=wake) for number in range(1, 6)]
    stalled.set()
    assert told.wait(SECONDS)
    assert woken == [[True] * 5]


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40])
def test_records_of_one_commit_are_all_there_whatever_their_number(spool: Spool, count: int) -> None:
    spool.append(entries(*range(count))).result(SECONDS)
    spool.append(entries(count)).result(SECONDS)
    assert everything(spool) == entries(*range(count + 1))
    assert spool.durable == count + 1
