"""Whom detectors wait for, and for how long: the time that passes is the test's."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from monitor.services.backlog import Backlog
from monitor.storage.partition_positions import Position
from tests.examples.assessments import NOON


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


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def waited_for(backlog: Backlog, *offsets: int, reached: Sequence[int] | None = None, ending: int = 1000) -> list[int]:
    """Partitions, of which the ledger has come to these offsets, that are waited for; event time goes with them."""
    places = [
        Position(
            log="rag.traces.v1", partition=number, next_offset=offset, ending=ending, newest_event_time=at(event_time)
        )
        for number, (offset, event_time) in enumerate(zip(offsets, reached or offsets, strict=True))
    ]
    return [each.partition for each in backlog.waited_for(places)]


def test_who_is_behind_is_waited_for_and_nobody_else(backlog: Backlog) -> None:
    assert waited_for(backlog, 0, 999, 1000) == [0, 1]


def test_patience_ends_when_the_others_got_on_for_long(
    backlog: Backlog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for offset in range(30):
        assert waited_for(backlog, offset, 7) == ([0, 1] if offset * 5 < 100 else [0])
        clock.now += 5
    (said,) = caplog.records
    assert (said.message.partition(":")[0], said.partition) == ("a partition is waited for no longer", 1)  # type: ignore[attr-defined] # logging sets what `extra` names
    # It comes once more, and is waited for again.
    assert waited_for(backlog, 30, 8) == [0, 1]


def test_an_outage_of_all_leaves_everybody_most_of_their_patience(backlog: Backlog, clock: Clock) -> None:
    for offset in range(5):
        assert waited_for(backlog, offset, offset, 1000) == [0, 1]
        clock.now += 10
    for _ in range(50):
        assert waited_for(backlog, 5, 5, 1000) == [0, 1]
        clock.now += 60
    # The first one is back, and gets on: the other has its patience, but for the half minute before.
    for offset in range(6, 13):
        assert waited_for(backlog, offset, 5, 1000) == [0, 1]
        clock.now += 10
    assert waited_for(backlog, 13, 5, 1000) == [0]


def test_the_only_one_that_is_behind_is_not_waited_for_for_ever(backlog: Backlog, clock: Clock) -> None:
    for _ in range(10):
        assert waited_for(backlog, 1000, 5) == [1]
        clock.now += 10
    assert waited_for(backlog, 1000, 5) == []


def test_two_that_are_stuck_are_not_waited_for_for_ever(backlog: Backlog, clock: Clock) -> None:
    # The third gets a record in every sixth poll.
    for poll in range(30):
        waited = waited_for(backlog, 5, 5, poll // 6, reached=(5, 5, poll // 6))
        assert waited == ([0, 1, 2] if poll < 25 else [2])
        clock.now += 5


def test_who_sends_what_says_nothing_of_time_is_not_waited_for_for_ever(backlog: Backlog, clock: Clock) -> None:
    for offset in range(10):
        assert waited_for(backlog, offset, offset, reached=(offset, 5)) == [0, 1]
        clock.now += 10
    assert waited_for(backlog, 10, 10, reached=(10, 5)) == [0]
    # That it was caught up with in between says nothing either.
    assert waited_for(backlog, 11, 1000, reached=(11, 5)) == [0]
    assert waited_for(backlog, 12, 999, reached=(12, 5)) == [0]
    assert waited_for(backlog, 13, 999, reached=(13, 6)) == [0, 1]


def test_who_was_asleep_has_not_waited_all_the_time(backlog: Backlog, clock: Clock) -> None:
    waited_for(backlog, 5, 5)
    clock.now += 3600
    assert waited_for(backlog, 6, 5) == [0, 1]


def test_an_end_that_is_not_known_may_be_far(backlog: Backlog) -> None:
    place = Position(log="rag.traces.v1", partition=0, next_offset=7, ending=None)
    assert backlog.waited_for([place]) == [place]


def test_without_patience_nobody_is_waited_for(clock: Clock) -> None:
    assert waited_for(Backlog(patience=timedelta(0), clock=clock), 0, 0) == []
