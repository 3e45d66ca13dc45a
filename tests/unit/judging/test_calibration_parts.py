import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from monitor.judging.crossval import FOLDS, clearly_lower, folds
from monitor.judging.isotonic import fit_isotonic
from monitor.judging.logistic import fit_bounded
from monitor.judging.metrics import auroc
from monitor.judging.odds import log_odds
from monitor.judging.prospects import Line, fit_transition
from monitor.judging.reliability import calibration_error, reliability_curve
from monitor.judging.segments import fit_segments


def drawn(rows=2000, seed=0):
    """Probabilities, and labels drawn from them."""
    draw = np.random.default_rng(seed)
    probabilities = expit(draw.normal(scale=1.5, size=rows))
    return probabilities, draw.random(rows) < probabilities


# Isotonic


def test_isotonic_recovers_a_curve_that_no_line_fits():
    draw = np.random.default_rng(1)
    scores = draw.uniform(-3, 3, size=20_000)
    truth = np.where(scores < 0, 0.2, 0.2 + 0.7 * np.minimum(scores, 1))
    curve = fit_isotonic(scores, draw.random(20_000) < truth)
    places = np.array([-2.0, -1.0, 0.3, 0.6, 2.0])
    expected = np.where(places < 0, 0.2, 0.2 + 0.7 * np.minimum(places, 1))
    assert curve.probabilities(places) == pytest.approx(expected, abs=0.04)


def test_isotonic_rises_and_is_level_beyond_its_ends():
    probabilities, labels = drawn()
    curve = fit_isotonic(log_odds(probabilities), labels)
    said = curve.probabilities(np.linspace(-20, 20, 400))
    assert (np.diff(said) >= 0).all()
    assert 0 < said[0] == curve.probability(-1e308)
    assert 1 > said[-1] == curve.probability(1e308)
    assert list(curve.scores) == sorted(set(curve.scores))


def test_isotonic_keeps_most_of_the_order():
    probabilities, labels = drawn()
    curve = fit_isotonic(probabilities, labels)
    fresh, truth = drawn(seed=9)
    assert auroc(curve.probabilities(fresh), truth) == pytest.approx(auroc(fresh, truth), abs=0.005)


def test_isotonic_needs_both_labels():
    with pytest.raises(ValueError, match="both labels"):
        fit_isotonic([1.0, 2.0], [True, True])


# Logistic regression with bounds


def test_without_bounds_it_is_scikit_learns():
    draw = np.random.default_rng(2)
    features = np.column_stack([np.ones(500), draw.normal(size=(500, 3))])
    target = (draw.random(500) < expit(features @ [0.3, 1.0, -2.0, 0.5])).astype(float)
    penalty = np.array([0.0, 0.01, 0.01, 0.01])
    found = fit_bounded(features, target, penalty=penalty, lower=np.full(4, -np.inf), start=np.zeros(4))
    known = LogisticRegression(C=1 / (0.01 * 500), tol=1e-10).fit(features[:, 1:], target)
    assert found == pytest.approx([*known.intercept_, *known.coef_[0]], abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_with_bounds_it_is_a_general_optimisers(seed):
    draw = np.random.default_rng(seed)
    features = np.column_stack([np.ones(300), draw.normal(size=(300, 3))])
    target = (draw.random(300) < expit(features @ [0.3, 1.0, -2.0, 0.1])).astype(float)
    penalty, lower = np.full(4, 0.001), np.array([-np.inf, 0.0, 0.0, 0.2])

    def loss(parameters):
        margin = features @ parameters
        return (np.logaddexp(0, margin) - target * margin).mean() + 0.5 * penalty @ parameters**2

    found = fit_bounded(features, target, penalty=penalty, lower=lower, start=np.zeros(4))
    bounds = [(None if np.isinf(low) else low, None) for low in lower]
    known = minimize(loss, np.ones(4), method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13, "gtol": 1e-9})
    assert loss(found) <= known.fun + 1e-8
    assert (found >= lower).all()


# Folds


def test_every_row_is_held_out_once():
    labels = np.arange(103) % 2 == 0
    for held_out in (folds(labels), folds(labels, [f"g{row % 3}" for row in range(103)])):
        assert (np.sum(held_out, axis=0) == 1).all()


def test_groups_are_held_out_whole_and_many_of_them_together():
    labels = np.arange(600) % 2 == 0
    few, many = ([f"g{row // 2 % count}" for row in range(600)] for count in (4, 40))
    assert len(folds(labels, few)) == 4
    assert len(folds(labels, many)) == FOLDS
    for names in (few, many):
        for held in folds(labels, names):
            inside = {name for name, out in zip(names, held, strict=True) if out}
            assert not inside & {name for name, out in zip(names, held, strict=True) if not out}


def test_groups_that_leave_one_label_alone_are_not_held_out_whole():
    labels = np.array([True] * 50 + [False] * 50)
    assert len(folds(labels, ["a"] * 50 + ["b"] * 50)) == FOLDS


def test_a_gain_that_chance_explains_is_not_clear():
    draw = np.random.default_rng(3)
    losses = draw.random(200)
    assert not clearly_lower(losses, losses)
    assert clearly_lower(losses - 0.1, losses)
    assert not clearly_lower(losses + draw.normal(scale=1.0, size=200), losses)


# Reliability


def test_the_curve_of_true_probabilities_lies_on_the_diagonal():
    curve = reliability_curve(*drawn(rows=20_000))
    assert len(curve) == 10
    assert sum(one.rows for one in curve) == 20_000
    assert all(one.observed == pytest.approx(one.predicted, abs=0.04) for one in curve)
    assert sum(one.low <= one.predicted <= one.high for one in curve) >= 8


def test_few_rows_make_fewer_bins():
    assert len(reliability_curve([0.2, 0.8, 0.9], [False, True, True])) == 3


def test_the_error_of_true_probabilities_averages_to_nothing_and_that_of_wrong_ones_to_theirs():
    squares, shifted = [], []
    for seed in range(60):
        probabilities, labels = drawn(rows=500, seed=seed)
        held_out = folds(labels)
        squares.append(calibration_error(probabilities, labels, held_out) ** 2)
        # All 0.1 too high: the error is 0.1 in every bin.
        lowered = np.random.default_rng(seed + 1000).random(500) < np.clip(probabilities - 0.1, 0, 1)
        inside = probabilities > 0.1
        shifted.append(calibration_error(probabilities[inside], lowered[inside], folds(lowered[inside])))
    # Below nought as often as above, and kept at nought there.
    assert np.mean(np.array(squares) == 0) > 0.35
    assert calibration_error(*drawn(rows=40_000), [np.ones(40_000, dtype=bool)]) < 0.01
    assert np.mean(shifted) == pytest.approx(0.1, abs=0.015)


# Segments


def segmented(rows, intercepts, seed=4):
    draw = np.random.default_rng(seed)
    names = np.array([f"s{place}" for place in range(len(intercepts))])[draw.integers(len(intercepts), size=rows)]
    odds = draw.normal(scale=1.5, size=rows)
    own = odds + np.array(intercepts)[[int(name[1:]) for name in names]]
    return odds, (draw.random(rows) < expit(own)).tolist(), names.tolist()


def test_segments_that_differ_are_told_apart():
    shifts = fit_segments(*segmented(3000, (-1.0, 0.0, 1.0)))
    assert [shifts[name].intercept for name in ("s0", "s1", "s2")] == pytest.approx([-1, 0, 1], abs=0.25)
    assert all(shift.slope == pytest.approx(1.0, abs=0.25) for shift in shifts.values())


def test_segments_that_do_not_differ_are_not():
    assert fit_segments(*segmented(1500, (0.0, 0.0, 0.0))) == {}
    assert fit_segments(*segmented(1500, (0.7,))) == {}


def test_a_small_segment_is_drawn_towards_all():
    odds, labels, names = segmented(3000, (-1.0, 1.0))
    few = [name if name == "s0" or row < 80 else "rest" for row, name in enumerate(names)]
    shifts = fit_segments(odds, labels, few)
    large = fit_segments(odds, labels, names)
    assert 0 < shifts["s1"].intercept < large["s1"].intercept
    thin = [name if name == "s0" or row < 40 else "rest" for row, name in enumerate(names)]
    assert thin.count("s1") < 30
    assert "s1" not in fit_segments(odds, labels, thin)


# Prospects


def test_a_prospect_is_the_error_that_remains():
    draw = np.random.default_rng(6)
    labels = np.arange(40_000) % 2 == 1
    before = np.where(labels, 0.8, -0.8) + draw.normal(scale=1.26, size=40_000)  # log-odds of binormal evidence
    after = before + np.where(labels, 2.0, -2.0) + draw.normal(scale=2.0, size=40_000)
    known, fresh = np.arange(40_000) < 20_000, np.arange(40_000) >= 20_000
    transition = fit_transition(["a"], "b", before[known], after[known], labels[known])
    misses, false_alarms = transition.prospects(expit(before[fresh]), 0.5)
    called = after[fresh] >= 0
    assert misses.mean() == pytest.approx((labels[fresh] & ~called).mean(), abs=0.006)
    assert false_alarms.mean() == pytest.approx((~labels[fresh] & called).mean(), abs=0.006)
    near = np.abs(before[fresh]) < 0.3
    assert misses[near].mean() == pytest.approx((labels[fresh] & ~called)[near].mean(), abs=0.02)
    one = transition.prospect(0.5, 0.5)
    assert one.miss == pytest.approx(one.false_alarm, abs=0.02)


def test_a_higher_threshold_misses_more_and_alarms_less():
    labels = np.arange(200) % 2 == 1
    before = np.where(labels, 1.0, -1.0) + np.random.default_rng(7).normal(size=200)
    transition = fit_transition(["a"], "b", before, 2 * before, labels)
    low, high = (transition.prospect(0.6, threshold) for threshold in (0.3, 0.8))
    assert low.miss < high.miss
    assert low.false_alarm > high.false_alarm


def test_a_line_of_another_length_is_refused():
    with pytest.raises(ValueError, match="quantiles"):
        Line(intercept=0.0, slope=1.0, rest=(0.0, 1.0))
