"""Whom detectors wait for, and for how long: the time that passes is the test's."""

from datetime import timedelta

import pytest

from monitor.services.backlog import Backlog
from monitor.storage.partition_ends import Position


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backlog(clock: Clock) -> Backlog:
    return Backlog(patience=timedelta(seconds=100), clock=clock)


def waited_for(backlog: Backlog, *offsets: int, end: int = 1000) -> list[int]:
    """Partitions, of which the ledger has come to these offsets, that are waited for."""
    places = [
        Position(log="rag.traces.v1", partition=number, next_offset=offset, end=end, newest_event_time=None)
        for number, offset in enumerate(offsets)
    ]
    return [each.partition for each in backlog.waited_for(places)]


def test_who_is_behind_is_waited_for_and_nobody_else(backlog: Backlog) -> None:
    assert waited_for(backlog, 0, 999, 1000) == [0, 1]


def test_patience_ends_when_the_others_got_on_for_long(backlog: Backlog, clock: Clock) -> None:
    for offset in range(20):
        waited = [0, 1] if offset * 5 < 100 else [0]
        assert waited_for(backlog, offset, 7) == waited
        clock.now += 5
    assert waited_for(backlog, 20, 7) == [0]
    # It comes once more, and is waited for again.
    assert waited_for(backlog, 20, 8) == [0, 1]


def test_an_outage_of_all_exhausts_nobodys_patience(backlog: Backlog, clock: Clock) -> None:
    assert waited_for(backlog, 5, 5) == [0, 1]
    for _ in range(50):
        clock.now += 60
        assert waited_for(backlog, 5, 5) == [0, 1]
    # The first arrival after it counts as a tenth of the patience, however long it took to come.
    assert waited_for(backlog, 6, 5) == [0, 1]
    clock.now += 9
    assert waited_for(backlog, 7, 5) == [0, 1]


def test_who_caught_up_has_all_patience_again(backlog: Backlog, clock: Clock) -> None:
    for offset in range(11):
        waited_for(backlog, offset, 7)
        clock.now += 10
    assert waited_for(backlog, 11, 7) == [0]
    assert waited_for(backlog, 12, 7, end=7) == []
    clock.now += 10
    assert waited_for(backlog, 13, 7) == [0, 1]


def test_without_patience_nobody_is_waited_for(clock: Clock) -> None:
    assert waited_for(Backlog(patience=timedelta(0), clock=clock), 0, 0) == []
