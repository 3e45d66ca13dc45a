import math

import pytest

from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.inference.simulated import SimulatedJudge
from monitor.inference.unhurried import UnhurriedJudge
from tests.support.imaginary import imaginary_traces, is_hallucinated

JUDGE = SimulatedJudge(is_hallucinated, sensitivity=0.8, specificity=0.9)
TRACES = imaginary_traces(3)


def test_it_says_what_the_other_says_after_its_time() -> None:
    waited: list[float] = []
    slow = UnhurriedJudge(JUDGE, seconds=2.0, pause=waited.append)
    assert slow.judge_many(TRACES, deadline_seconds=5.0) == JUDGE.judge_many(TRACES, deadline_seconds=5.0)
    assert waited == [2.0, 2.0, 2.0]
    assert slow.identity == JUDGE.identity


def test_it_gives_up_at_its_deadline() -> None:
    waited: list[float] = []
    (said,) = UnhurriedJudge(JUDGE, seconds=math.inf, pause=waited.append).judge_many(TRACES[:1], deadline_seconds=0.5)
    assert isinstance(said, CouldNotJudge)
    assert said.reason is Unjudgeable.DEADLINE
    assert waited == [0.5]


class WaitsNoLonger(Exception):
    pass


def test_one_that_heeds_no_deadline_hangs() -> None:
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) > 9:
            raise WaitsNoLonger

    with pytest.raises(WaitsNoLonger):
        UnhurriedJudge(JUDGE, seconds=math.inf, heeds_deadline=False, pause=pause).judge_many(
            TRACES, deadline_seconds=0.5
        )
