import math

import pytest

from monitor.services.replay import Pace, key_of
from monitor.services.replay_headers import NO_REPLAY, headers, replay_of, wanted_version
from monitor.services.replay_report import Comparison
from monitor.storage.replays_report import PairCounts
from monitor.streaming.consume import Record
from monitor.wire import encode_trace
from tests.examples.assessments import trace

VERSION = "cascade@000000000002"


def record(**carried: bytes) -> Record:
    return Record(
        topic="rag.replays.v1",
        partition=0,
        offset=0,
        key=None,
        value=b"",
        high_watermark=None,
        timestamp=0.0,
        headers={name.replace("_", "-"): value for name, value in carried.items()},
    )


def test_a_record_names_its_replay() -> None:
    ours = record(**headers(17, VERSION))
    assert (replay_of(ours), wanted_version(ours)) == (17, VERSION)


@pytest.mark.parametrize("named", [b"", b"-1", b"seven", b"9" * 40, b"\xff", "²".encode()])
def test_a_record_of_other_hands_is_of_no_replay(named: bytes) -> None:
    assert replay_of(record(groundwatch_replay=named)) == NO_REPLAY
    assert replay_of(record()) == NO_REPLAY
    assert wanted_version(record()) is None


class Clock:
    """Time passes only while someone waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float) -> bool:
        self.waits.append(timeout)
        self.now += timeout
        return False


def test_a_pace_is_kept_and_nothing_is_made_up_for() -> None:
    clock = Clock()
    pace = Pace(10, stop=clock, stopwatch=clock)
    pace.spend(20)
    pace.spend(5)
    assert clock.waits == [2.0, 0.5]
    clock.now += 60
    pace.spend(10)
    assert clock.waits[2:] == [1.0]
    pace.spend(0)
    assert len(clock.waits) == 3


def test_a_dead_letter_that_reads_as_a_trace_has_the_key_of_its_trace() -> None:
    assert key_of(encode_trace(trace("t-1"))) == b"city|t-1"
    assert key_of(b"{}") is None


def test_kappa_is_cohens() -> None:
    # Cohen's own kind of table: agreement 0.7, by chance 0.5.
    counts = PairCounts(both_hallucinated=20, now_faithful=5, now_hallucinated=10, both_faithful=15)
    compared = Comparison(counts=counts)
    assert compared.n == 50
    assert compared.agreement is not None
    assert compared.agreement.value == pytest.approx(0.7)
    assert compared.agreement.low < 0.7 < compared.agreement.high
    assert compared.kappa == pytest.approx(0.4)
    assert compared.old_rate is not None
    assert compared.new_rate is not None
    assert (compared.old_rate.value, compared.new_rate.value) == (0.5, 0.6)


def test_where_nothing_differs_there_is_no_kappa() -> None:
    nothing = Comparison(counts=PairCounts(selected=3, missing=3))
    assert (nothing.n, nothing.agreement, nothing.kappa) == (0, None, None)
    alike = Comparison(counts=PairCounts(both_faithful=9))
    assert alike.agreement is not None
    assert math.isclose(alike.agreement.value, 1.0)
    assert alike.kappa is None
