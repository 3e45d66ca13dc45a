from dataclasses import replace

import numpy as np
import pytest

from monitor.domain.judgement import CouldNotJudge, Judge, Opinion, Tier, Unjudgeable, Usage
from monitor.inference.simulated import SimulatedJudge
from monitor.judging.metrics import auroc
from tests.support.imaginary import imaginary_trace, imaginary_traces, is_hallucinated

TRACES = imaginary_traces(6000)
LABELS = np.array([is_hallucinated(trace) for trace in TRACES])


def scores(judge: Judge) -> np.ndarray:
    opinions = [judge.judge(trace, deadline_seconds=1) for trace in TRACES]
    return np.array([opinion.raw_score for opinion in opinions if isinstance(opinion, Opinion)])


def simulated(**changes):
    return SimulatedJudge(is_hallucinated, **{"sensitivity": 0.9, "specificity": 0.8, **changes})


def test_it_has_the_stated_skill():
    judge = simulated()
    called = scores(judge) > 0
    # Three standard errors of a share in 3,000.
    assert called[LABELS].mean() == pytest.approx(0.9, abs=0.017)
    assert (~called[~LABELS]).mean() == pytest.approx(0.8, abs=0.022)
    assert auroc(scores(judge), LABELS) == pytest.approx(judge.auroc, abs=0.01)


def test_it_says_the_same_every_time_and_another_seed_says_otherwise():
    assert (scores(simulated()) == scores(simulated())).all()
    assert (scores(simulated()) != scores(simulated(seed=1))).any()
    assert simulated().judge_many(TRACES[:5], deadline_seconds=1) == [
        simulated().judge(trace, deadline_seconds=1) for trace in TRACES[:5]
    ]


@pytest.mark.parametrize("shared", [0.0, 0.6, 1.0])
def test_errors_are_shared_as_far_as_stated(shared):
    one, other = (scores(simulated(name=name, shared=shared))[LABELS] for name in ("one", "other"))
    assert np.corrcoef(one, other)[0, 1] == pytest.approx(shared, abs=0.05)


def test_its_version_covers_its_skill():
    judges = [simulated(), simulated(sensitivity=0.91), simulated(seed=1), simulated(shared=0.1), simulated(name="x")]
    assert len({judge.identity.version for judge in judges}) == len(judges)
    assert simulated(tier=Tier.POOL).identity.tier is Tier.POOL


def test_it_judges_nothing_that_no_judge_could():
    blank = replace(imaginary_trace(1), answer=" ")
    untold = SimulatedJudge(lambda _: None, sensitivity=0.9, specificity=0.9)
    for judge, trace, reason in (
        (simulated(), blank, Unjudgeable.EMPTY_ANSWER),
        (simulated(), replace(imaginary_trace(1), documents=()), Unjudgeable.NO_DOCUMENTS),
        (untold, imaginary_trace(1), Unjudgeable.JUDGE_UNAVAILABLE),
    ):
        result = judge.judge(trace, deadline_seconds=1)
        assert isinstance(result, CouldNotJudge)
        assert result.reason is reason


def test_it_states_what_a_call_would_cost():
    said = simulated(usage=Usage(cost_usd=0.01)).judge(TRACES[0], deadline_seconds=1)
    assert isinstance(said, Opinion)
    assert said.usage.cost_usd == 0.01


@pytest.mark.parametrize("changes", [{"sensitivity": 1.0}, {"specificity": 0.0}, {"shared": 1.5}])
def test_impossible_skill_is_refused(changes):
    with pytest.raises(ValueError, match="between 0 and 1"):
        simulated(**changes)
