"""A real child process, a real pipe; what it does is the test's."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from monitor.ingest.counters import Refusal, Tally
from monitor.ingest.dispatch_link import (
    FEEDBACK,
    NOTHING_YET,
    Acknowledged,
    CountsOf,
    Outbox,
    RelayedCounters,
    SetAside,
    Stop,
)
from monitor.ingest.dispatcher import Dispatcher
from monitor.ingest.forward import Backoff, KafkaState
from monitor.ingest.spool import Spool
from monitor.ingest.spool_records import Entry

SECONDS = 60.0


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def tells_all(link: Connection) -> None:
    outbox = Outbox(link)
    counters = RelayedCounters(outbox)
    counters.accepted(3)
    counters.refused(Refusal.INVALID, field="event_time")
    counters.forwarded(2)
    counters.set_aside(1)
    counters.retried()
    of_feedback = RelayedCounters(CountsOf(FEEDBACK, outbox))
    of_feedback.forwarded(7)
    of_feedback.retried()
    outbox.send(SetAside(spool="traces", position=1, reason="too large"))
    outbox.send(Acknowledged(spool="traces", position=1))
    outbox.send(NOTHING_YET)
    assert link.recv() == Stop(2.0)


def dies_twice(lives: Path, link: Connection) -> None:
    with lives.open("a") as file:
        file.write("x")
    Outbox(link).send(NOTHING_YET)
    if lives.stat().st_size <= 2:
        os._exit(9)
    link.recv()


def babbles_once(lives: Path, link: Connection) -> None:
    """Its first life says what no pickle begins with, and would then stay for ever."""
    if lives.exists():
        Outbox(link).send(NOTHING_YET)
    else:
        lives.touch()
        link.send_bytes(b"no word")
    link.recv()


def never_ends(link: Connection) -> None:
    Outbox(link).send(NOTHING_YET)
    while True:
        time.sleep(1)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool", max_bytes=1 << 26)) as opened:
        yield opened


def test_what_the_process_tells_is_done_and_counted(spool: Spool) -> None:
    spool.append([Entry(key=b"k", value=b"v"), Entry(key=b"l", value=b"w")]).result(SECONDS)
    tally, of_feedback = Tally(), Tally()
    dispatcher = Dispatcher(tells_all, spools={"traces": spool}, counters=tally, feedback_counters=of_feedback)
    dispatcher.start()
    eventually(lambda: dispatcher.state is not NOTHING_YET)
    dispatcher.stop(drain_seconds=2.0)

    assert (tally.accepted_total, tally.forwarded_total, tally.set_aside_total, tally.retries_total) == (3, 2, 1, 1)
    assert (of_feedback.accepted_total, of_feedback.forwarded_total, of_feedback.retries_total) == (0, 7, 1)
    assert tally.refusals == {"invalid:event_time": 1}
    assert spool.acknowledged == 1
    eventually(lambda: spool.state().aside == 1)
    assert dispatcher.restarts == 0


def test_a_process_that_dies_is_replaced_and_the_status_says_so(spool: Spool, tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    dispatcher = Dispatcher(
        partial(dies_twice, lives),
        spools={"traces": spool},
        counters=Tally(),
        backoff=Backoff(first_seconds=0.4, chance=lambda: 1.0),
    )
    dispatcher.start()
    eventually(lambda: dispatcher.state.kafka["traces"].kafka is KafkaState.DOWN)
    assert "exit code 9" in (dispatcher.state.kafka["traces"].problem or "")
    eventually(lambda: dispatcher.restarts == 2 and lives.stat().st_size == 3)
    dispatcher.stop(drain_seconds=1.0)
    assert lives.read_text() == "xxx"


def test_without_room_for_a_process_it_is_tried_again(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room() -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    dispatcher = Dispatcher(
        never_ends, spools={"traces": spool}, counters=Tally(), backoff=Backoff(first_seconds=0.1, limit_seconds=0.1)
    )
    with monkeypatch.context() as failing:
        failing.setattr("monitor.ingest.dispatcher._PROCESSES.Pipe", no_room)
        dispatcher.start()
        eventually(lambda: dispatcher.restarts >= 2)
    assert "cannot be started" in (dispatcher.state.kafka["traces"].problem or "")
    eventually(lambda: dispatcher.state == NOTHING_YET)
    monkeypatch.setattr("monitor.ingest.dispatcher._SPARE_SECONDS", 0.2)
    dispatcher.stop(drain_seconds=0.1)


def test_a_process_that_is_not_understood_is_replaced(spool: Spool, tmp_path: Path) -> None:
    dispatcher = Dispatcher(
        partial(babbles_once, tmp_path / "lives"),
        spools={"traces": spool},
        counters=Tally(),
        backoff=Backoff(first_seconds=0.1, limit_seconds=0.1),
    )
    dispatcher.start()
    eventually(lambda: dispatcher.restarts == 1 and dispatcher.state.kafka["traces"].kafka is KafkaState.UNTRIED)
    dispatcher.stop(drain_seconds=1.0)


def test_a_process_that_does_not_end_is_killed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.ingest.dispatcher._SPARE_SECONDS", 0.2)
    dispatcher = Dispatcher(never_ends, spools={"traces": spool}, counters=Tally())
    dispatcher.start()
    eventually(lambda: dispatcher.state is not NOTHING_YET)
    pid = dispatcher.pid
    assert pid is not None
    dispatcher.stop(drain_seconds=0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def speaks_nonsense_first(link: Connection) -> None:
    outbox = Outbox(link)
    outbox.send(Acknowledged(spool="no such spool", position=1))
    outbox.send(Acknowledged(spool="traces", position=1))
    outbox.send(NOTHING_YET)
    link.recv()


def test_one_word_that_is_not_understood_costs_no_other(spool: Spool) -> None:
    spool.append([Entry(key=b"k", value=b"v")]).result(SECONDS)
    dispatcher = Dispatcher(
        speaks_nonsense_first, spools={"traces": spool}, counters=Tally(), feedback_counters=Tally()
    )
    dispatcher.start()
    eventually(lambda: dispatcher.state is not NOTHING_YET)
    dispatcher.stop(drain_seconds=1.0)
    assert spool.acknowledged == 1
    assert dispatcher.restarts == 0
