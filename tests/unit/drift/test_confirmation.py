"""Confirmation: a service that changed is confirmed, a judge that changed is not, and too little says nothing."""

import numpy as np
import pytest

from monitor.domain.confirmation import ConfirmationState
from monitor.drift.confirmation import Agreement, confirm
from monitor.drift.corrected import Share


def side(flagged: int, n: int, agreed: int, sampled: int, *, unheard: int = 0) -> Agreement:
    return Agreement(flagged=Share(hits=flagged, n=n), agreed=Share(hits=agreed, n=sampled - unheard), sampled=sampled)


def test_a_rise_that_the_stronger_judge_sees_too_is_confirmed() -> None:
    said = confirm(side(500, 10_000, 48, 60), side(60, 600, 48, 60))
    assert said.state is ConfirmationState.CONFIRMED
    assert said.before is not None
    assert said.after is not None
    assert said.before.value == pytest.approx(0.04)
    assert said.after.value == pytest.approx(0.08)
    assert said.before.low < 0.04 < said.before.high < said.after.low < 0.08 < said.after.high
    assert (said.asked, said.heard) == (120, 120)


def test_a_judge_that_flags_good_answers_is_not_confirmed() -> None:
    said = confirm(side(500, 10_000, 48, 60), side(60, 600, 24, 60))
    assert said.state is ConfirmationState.NOT_CONFIRMED


def test_nothing_flagged_before_needs_no_sample_from_then() -> None:
    assert confirm(side(0, 2000, 0, 0), side(30, 300, 25, 30)).state is ConfirmationState.CONFIRMED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (side(500, 10_000, 40, 60), side(60, 600, 5, 60, unheard=51)),
        (side(500, 10_000, 5, 60, unheard=55), side(60, 600, 50, 60)),
        (side(500, 10_000, 40, 60), side(0, 0, 0, 0)),
        (side(500, 10_000, 40, 60), side(6, 60, 4, 6, unheard=2)),
    ],
)
def test_too_few_words_say_nothing(before: Agreement, after: Agreement) -> None:
    said = confirm(before, after)
    assert (said.state, said.before, said.after) == (ConfirmationState.INCONCLUSIVE, None, None)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("precision", [0.4, 0.8])
def test_what_only_the_edge_judge_sees_is_rarely_confirmed(rate: float, precision: float) -> None:
    """The edge judge doubles what it flags while the truth stays: its precision halves."""
    draw = np.random.default_rng(4)
    confirmed = 0
    runs = 2000
    for _ in range(runs):
        flagged = draw.binomial([10_000, 600], [rate, 2 * rate])
        sampled = np.minimum(flagged, 60)
        agreed = draw.binomial(sampled, [precision, precision / 2])
        before, after = (side(int(flagged[n]), (10_000, 600)[n], int(agreed[n]), int(sampled[n])) for n in (0, 1))
        confirmed += confirm(before, after).state is ConfirmationState.CONFIRMED
    assert confirmed / runs <= 0.06


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
def test_what_really_doubled_is_nearly_always_confirmed(rate: float) -> None:
    draw = np.random.default_rng(5)
    confirmed = 0
    for _ in range(500):
        flagged = draw.binomial([10_000, 600], [rate, 2 * rate])
        sampled = np.minimum(flagged, 60)
        agreed = draw.binomial(sampled, 0.8)
        before, after = (side(int(flagged[n]), (10_000, 600)[n], int(agreed[n]), int(sampled[n])) for n in (0, 1))
        confirmed += confirm(before, after).state is ConfirmationState.CONFIRMED
    assert confirmed / 500 >= 0.95
