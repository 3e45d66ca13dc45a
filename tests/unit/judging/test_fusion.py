import numpy as np
import pytest
from scipy.special import expit, ndtr
from scipy.stats import multivariate_normal

from monitor.judging.fusion import Fusion, fit_fusion
from monitor.judging.metrics import auroc
from monitor.judging.odds import log_losses, log_odds, sigmoid
from monitor.judging.platt import fit_platt
from monitor.judging.segments import Shift

ROWS = 3000


def simulate(distances, covariance=None, rows=ROWS, seed=1):
    """Judges of binormal evidence: class means plus and minus half of `distances`, a common covariance."""
    draw = np.random.default_rng(seed)
    labels = np.arange(rows) % 2 == 1
    covariance = np.eye(len(distances)) if covariance is None else np.array(covariance)
    noise = draw.multivariate_normal(np.zeros(len(distances)), covariance, size=rows)
    return labels, np.where(labels, 0.5, -0.5)[:, None] * np.array(distances) + noise


def best_possible(distances, covariance=None):
    """AUROC of the Bayes rule: of Mahalanobis' distance between the classes."""
    covariance = np.eye(len(distances)) if covariance is None else np.array(covariance)
    squared = np.array(distances) @ np.linalg.solve(covariance, np.array(distances))
    return float(ndtr(np.sqrt(squared / 2)))


def fit(labels, evidence, **options):
    """A fusion, fitted on every other pair of rows, and its scores on the rest."""
    train = np.arange(len(labels)) // 2 % 2 == 0
    names = [f"j{place}" for place in range(evidence.shape[1])]
    lines = [fit_platt(evidence[train, place], labels[train]) for place in range(evidence.shape[1])]

    def said(rows):
        return {name: line.probabilities(evidence[rows, place]) for place, (name, line) in enumerate(zip(names, lines))}  # noqa: B905 - as many lines as names

    fusion = fit_fusion(said(train), labels[train], **options)
    return fusion, fusion.log_odds(said(~train)), labels[~train], evidence[~train]


def test_independent_judges_come_near_the_best_possible():
    distances = (1.6, 1.2, 0.8)
    fusion, fused, labels, evidence = fit(*simulate(distances))
    assert auroc(fused, labels) == pytest.approx(best_possible(distances), abs=0.012)
    assert auroc(fused, labels) > max(auroc(evidence[:, place], labels) for place in range(3)) + 0.03
    # Independent evidence adds up as it is.
    assert all(weight == pytest.approx(1.0, abs=0.25) for weight in fusion.weights.values())


def test_its_probabilities_are_those_of_the_bayes_rule():
    distances = (1.6, 1.2)
    _, fused, labels, evidence = fit(*simulate(distances, rows=8000))
    exact = multivariate_normal(np.array(distances) / 2).logpdf(evidence)
    exact -= multivariate_normal(-np.array(distances) / 2).logpdf(evidence)
    target = labels.astype(float)
    loss, least = (log_losses(expit(odds), target).mean() for odds in (fused, exact))
    assert loss == pytest.approx(least, abs=0.005)


def test_a_judge_that_only_repeats_another_adds_nothing():
    labels, evidence = simulate((1.5,))
    fusion, fused, held, _ = fit(labels, np.column_stack([evidence, evidence]))
    assert sum(fusion.weights.values()) == pytest.approx(1.0, abs=0.1)
    assert len(fusion.deciding) == 1
    assert auroc(fused, held) == pytest.approx(best_possible((1.5,)), abs=0.02)


def test_errors_in_common_are_counted_once():
    covariance = [[1.0, 0.7], [0.7, 1.0]]
    fusion, fused, labels, _ = fit(*simulate((1.5, 1.5), covariance))
    assert sum(fusion.weights.values()) < 1.4  # 2.0 were they independent, 1.18 is the best
    assert auroc(fused, labels) == pytest.approx(best_possible((1.5, 1.5), covariance), abs=0.015)


def test_a_weak_judge_that_errs_with_a_strong_one_is_used_against_it():
    covariance = [[1.0, 0.8], [0.8, 1.0]]
    distances = (1.6, 0.6)
    fusion, fused, labels, evidence = fit(*simulate(distances, covariance))
    assert fusion.weights["j1"] < 0 < fusion.weights["j0"]
    assert auroc(fused, labels) == pytest.approx(best_possible(distances, covariance), abs=0.015)
    assert auroc(fused, labels) > auroc(evidence[:, 0], labels) + 0.03


@pytest.mark.parametrize("seed", range(8))
def test_a_judge_without_information_gets_no_weight(seed):
    fusion, *_ = fit(*simulate((1.5, 0.0), rows=1200, seed=seed))
    assert fusion.weights["j1"] == 0
    assert fusion.deciding == ("j0",)


def test_a_judge_that_is_the_wrong_way_round_gets_no_weight():
    fusion, fused, labels, _ = fit(*simulate((1.5, -1.5)))
    assert fusion.weights["j1"] == 0
    assert auroc(fused, labels) == pytest.approx(best_possible((1.5,)), abs=0.02)


def test_thin_data_leave_it_to_the_best_single_judge():
    labels, evidence = simulate((1.0, 2.5), rows=60)
    fusion, *_ = fit(labels, evidence)
    assert fusion.rows == 30
    assert fusion.deciding == ("j1",)
    assert fusion.weights["j1"] == 1.0


def test_two_judges_that_each_know_one_kind_of_error_are_heard_for_the_more_alarmed():
    draw = np.random.default_rng(5)
    labels = np.arange(ROWS) % 2 == 1
    kind = draw.integers(2, size=ROWS)
    evidence = np.column_stack([3.0 * (labels & (kind == place)) + draw.normal(size=ROWS) for place in range(2)])
    fusion, fused, held, unseen = fit(labels, evidence)
    assert fusion.highest > 0
    assert auroc(fused, held) > auroc(unseen.sum(axis=1), held) + 0.01
    # Still no judge's alarm ever lowers the probability.
    rising = fusion.log_odds({"j0": np.linspace(0.01, 0.99, 50), "j1": np.full(50, 0.4)})
    assert (np.diff(rising) > 0).all()


def test_what_helps_in_one_data_set_only_is_not_believed_where_whole_sets_are_held_out():
    labels, evidence = simulate((1.2, 0.0), rows=2400)
    sets = np.array([f"set{row // 2 % 4}" for row in range(2400)])
    inside = sets == "set0"
    # A cue that gives the label away in one set and points the other way in all others.
    evidence[:, 1] += np.where(inside, 2.5, -0.4) * np.where(labels, 1, -1)
    lines = [fit_platt(evidence[:, place], labels) for place in range(2)]
    said = {name: line.probabilities(evidence[:, place]) for place, (name, line) in enumerate(zip("ab", lines))}  # noqa: B905 - as many lines as names
    pooled = fit_fusion(said, labels)
    apart = fit_fusion(said, labels, groups=sets.tolist())
    assert pooled.weights["b"] > 0
    assert apart.weights["b"] == 0


def leveled(seed, rows=900):
    """Six data sets, on each of which either judge's scores have a level of their own."""
    draw = np.random.default_rng(seed)
    labels, evidence = simulate((1.4, 1.0), rows=rows, seed=seed)
    sets = [f"set{row // 2 % 6}" for row in range(rows)]
    levels = draw.normal(scale=1.2, size=(6, 2))
    return labels, evidence + levels[[int(name[3:]) for name in sets]], sets


def test_levels_of_data_sets_do_not_hide_what_judges_tell_apart_within_them():
    gains = []
    for seed in range(6):
        labels, evidence, sets = leveled(seed)
        apart = np.array(sets) == "set5"
        lines = [fit_platt(evidence[~apart, place], labels[~apart]) for place in range(2)]
        known, unseen = (
            {name: line.probabilities(evidence[rows, place]) for place, (name, line) in enumerate(zip("ab", lines))}  # noqa: B905 - as many lines as names
            for rows in (~apart, apart)
        )
        fusion = fit_fusion(known, labels[~apart], groups=[name for name in sets if name != "set5"])
        assert fusion.deciding == ("a", "b")
        best = max(auroc(evidence[apart, place], labels[apart]) for place in range(2))
        gains.append(auroc(fusion.log_odds(unseen), labels[apart]) - best)
        # Sure only as far as the levels of other data sets allow: not surer than either label's share of the rows.
        losses = log_losses(expit(fusion.log_odds(known)), labels[~apart].astype(float))
        assert losses.mean() < np.log(2)
    assert np.mean(gains) > 0.01


def test_nobody_decides_where_nobody_knows():
    fusion, fused, labels, _ = fit(*simulate((0.0, 0.0)))
    assert fusion.deciding == ()
    assert fused.shape == labels.shape
    assert sigmoid(float(fused[0])) == pytest.approx(0.5, abs=0.01)


def test_a_segment_moves_the_sum_once():
    fusion = Fusion(
        weights={"a": 1.0, "b": 1.0},
        bias=0.0,
        prior=0.5,
        rows=100,
        log_loss=0.5,
        segments={"acme/help/production": Shift(intercept=1.0, slope=0.5, rows=50)},
    )
    said = {"a": sigmoid(1.0), "b": sigmoid(2.0)}
    assert fusion.probability(said) == pytest.approx(sigmoid(3.0))
    assert fusion.probability(said, "acme/help/production") == pytest.approx(sigmoid(1.0 + 0.5 * 3.0))
    assert fusion.probability(said, "stranger") == pytest.approx(sigmoid(3.0))


def test_certainty_is_kept_finite():
    assert np.isfinite(log_odds([0.0, 1.0])).all()
