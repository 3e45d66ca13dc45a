"""The corrected rate: its value, its coverage, and when it is refused."""

import numpy as np
import pytest

from monitor.domain.rate import NoRate, Rate, wilson
from monitor.drift.corrected import FEWEST_LABELS, Share, corrected_rate

RUNS = 2000
GOOD = Share(hits=80, n=100)


def test_a_judge_without_error_is_taken_at_its_word() -> None:
    never_wrong = Share(hits=1e9, n=1e9)
    rate = corrected_rate(Share(hits=30, n=300), sensitivity=never_wrong, specificity=never_wrong)
    assert isinstance(rate, Rate)
    assert rate.value == pytest.approx(0.1)
    plain = wilson(30, 300)
    assert plain is not None
    # Agresti and Coull's form of Wilson's interval: the same centre, hardly wider.
    assert (rate.low, rate.high) == pytest.approx((plain.low, plain.high), abs=1e-3)


def test_the_judges_errors_are_taken_out() -> None:
    # 20 % hallucinated: 0.2 x 0.8 + 0.8 x 0.1 = 24 % are called so.
    rate = corrected_rate(Share(hits=240, n=1000), sensitivity=GOOD, specificity=Share(hits=90, n=100))
    assert isinstance(rate, Rate)
    assert rate.value == pytest.approx(0.2)
    assert rate.low < 0.2 < rate.high
    assert rate.n == 1000


def test_a_rate_below_the_false_alarms_is_nothing_and_not_negative() -> None:
    rate = corrected_rate(Share(hits=10, n=1000), sensitivity=GOOD, specificity=Share(hits=90, n=100))
    assert isinstance(rate, Rate)
    assert (rate.value, rate.low) == (0, 0)
    assert 0 < rate.high < 0.1


@pytest.mark.parametrize(
    ("judged", "sensitivity", "specificity", "words"),
    [
        (Share(hits=0, n=0), GOOD, GOOD, "nothing was judged"),
        (Share(hits=1, n=9), Share(hits=20, n=FEWEST_LABELS - 1), GOOD, "29 hallucinated answers are labelled"),
        (Share(hits=1, n=9), GOOD, Share(hits=20, n=FEWEST_LABELS - 1), "29 faithful answers are labelled"),
        (Share(hits=1, n=9), Share(hits=50, n=100), Share(hits=50, n=100), "no better than chance"),
        (Share(hits=1, n=9), Share(hits=10, n=100), Share(hits=20, n=100), "no better than chance"),
    ],
)
def test_refusals_say_why(judged: Share, sensitivity: Share, specificity: Share, words: str) -> None:
    refused = corrected_rate(judged, sensitivity=sensitivity, specificity=specificity)
    assert isinstance(refused, NoRate)
    assert words in refused.reason


@pytest.mark.parametrize(("hits", "n"), [(-1, 3), (4, 3), (float("nan"), 3)])
def test_what_is_no_share_is_refused(hits: float, n: float) -> None:
    with pytest.raises(ValueError, match="is no share"):
        Share(hits=hits, n=n)


@pytest.mark.parametrize("truth", [0.02, 0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize(("traces", "labels"), [(5000, 200), (2000, 100), (20_000, 500)])
def test_the_interval_covers_the_truth_as_often_as_it_says_and_the_raw_one_does_not(
    truth: float, traces: int, labels: int
) -> None:
    draw = np.random.default_rng(7)
    covered = raw_covered = 0
    for _ in range(RUNS):
        hallucinated = draw.binomial(traces, truth)
        called = int(draw.binomial(hallucinated, 0.8) + draw.binomial(traces - hallucinated, 0.1))
        rate = corrected_rate(
            Share(hits=called, n=traces),
            sensitivity=Share(hits=int(draw.binomial(labels, 0.8)), n=labels),
            specificity=Share(hits=int(draw.binomial(labels, 0.9)), n=labels),
        )
        raw = wilson(called, traces)
        assert isinstance(rate, Rate)
        assert raw is not None
        covered += rate.low <= truth <= rate.high
        raw_covered += raw.low <= truth <= raw.high
    assert 0.93 <= covered / RUNS <= 0.97
    assert raw_covered / RUNS < 0.6
