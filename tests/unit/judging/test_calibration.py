import json
import math

import numpy as np
import pytest

from monitor.domain.errors import InvalidSettings
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Judgement, Opinion, Tier, Unjudgeable
from monitor.judging.calibration import Calibration
from monitor.judging.calibration_fit import fit_calibration
from monitor.judging.calibration_judge import calibrate_judge
from monitor.judging.odds import sigmoid
from monitor.judging.platt import Platt, fit_platt


def identity(name, tier=Tier.SCREEN):
    return JudgeIdentity(name=name, tier=tier, model=f"{name}.bin", model_digest="d" * 64)


GOOD, NOISE, FAIR = identity("good"), identity("noise", Tier.EDGE), identity("fair", Tier.POOL)


def simulate(rows, seed=7):
    draw = np.random.default_rng(seed)
    labels = np.arange(rows) % 2 == 1
    truth = np.where(labels, 1.0, -1.0)
    return labels.tolist(), {
        GOOD: (truth * 1.2 + draw.normal(size=rows)).tolist(),
        NOISE: draw.normal(size=rows).tolist(),
        FAIR: (truth * 0.8 + draw.normal(size=rows)).tolist(),
    }


def judgement(calibration, judge, score):
    return Judgement(
        judge=judge,
        result=Opinion(raw_score=score),
        probability=calibration.probability(judge.version, score),
        latency_seconds=0.0,
        inclusion_probability=1.0,
        chosen_because="all",
    )


def failed(judge):
    return Judgement(
        judge=judge,
        result=CouldNotJudge(reason=Unjudgeable.DEADLINE),
        probability=None,
        latency_seconds=0.0,
        inclusion_probability=1.0,
        chosen_because="all",
    )


@pytest.fixture(scope="module")
def fitted():
    labels, scores = simulate(600)
    return fit_calibration(list(scores), list(scores.values()), labels)


def test_platt_recovers_the_probabilities_that_scores_were_drawn_from():
    draw = np.random.default_rng(1)
    scores = draw.normal(scale=2, size=20_000)
    labels = draw.random(20_000) < 1 / (1 + np.exp(-(0.7 * scores - 0.4)))
    platt = fit_platt(scores.tolist(), labels.tolist())
    assert platt.slope == pytest.approx(0.7, abs=0.05)
    assert platt.intercept == pytest.approx(-0.4, abs=0.05)


def test_platt_is_blind_to_the_scale_of_scores():
    labels, scores = simulate(400)
    small = fit_platt(scores[GOOD], labels)
    large = fit_platt([1000 * score + 5000 for score in scores[GOOD]], labels)
    assert large.probability(6000) == pytest.approx(small.probability(1), abs=1e-3)


def test_separable_scores_stay_short_of_certainty():
    platt = fit_platt([-1.0] * 20 + [1.0] * 20, [False] * 20 + [True] * 20)
    assert platt.probability(1.0) == pytest.approx(21 / 22, abs=0.01)


def test_scores_that_point_the_wrong_way_say_nothing():
    platt = fit_platt([1.0, 2.0, 3.0, -1.0, -2.0, -3.0], [False] * 3 + [True] * 3)
    assert platt.slope == 0
    assert platt.probability(100.0) == pytest.approx(0.5, abs=1e-3)


def test_one_label_is_refused():
    with pytest.raises(ValueError, match="both labels"):
        fit_platt([1.0, 2.0], [True, True])


@pytest.mark.parametrize("score", [-1e308, 1e308, -1e5, 1e5])
def test_extreme_scores_do_not_overflow(score):
    assert 0 <= Platt(slope=1.0, intercept=0.0).probability(score) <= 1


def test_a_judge_that_guesses_is_found_out(fitted):
    assert fitted.judges[GOOD.version].informative
    assert fitted.judges[FAIR.version].informative
    assert not fitted.judges[NOISE.version].informative
    assert fitted.judges[GOOD.version].auroc > 0.9
    assert fitted.judges[NOISE.version].auroc == pytest.approx(0.5, abs=0.09)


def test_too_few_rows_are_refused():
    labels, scores = simulate(30)
    with pytest.raises(ValueError, match="30 rows"):
        calibrate_judge(GOOD, scores[GOOD], labels)


def test_a_judge_without_calibration_has_no_probability(fitted):
    assert fitted.probability("stranger@000000000000", 3.0) is None


def test_the_guesser_alone_decides_nothing(fitted):
    assert fitted.fuse([judgement(fitted, NOISE, 9.0)]) is None


def test_the_guesser_moves_nothing(fitted):
    alone = fitted.fuse([judgement(fitted, GOOD, 1.0)])
    together = fitted.fuse([judgement(fitted, GOOD, 1.0), judgement(fitted, NOISE, -9.0)])
    assert alone == together == (pytest.approx(fitted.probability(GOOD.version, 1.0)), (GOOD.version,))


def test_two_good_judges_together_beat_either():
    labels, scores = simulate(600)
    calibration = fit_calibration(list(scores), list(scores.values()), labels)
    fusion = next(one for one in calibration.fusions if set(one.weights) == {GOOD.version, FAIR.version})
    assert fusion.deciding == (GOOD.version, FAIR.version)
    assert fusion.log_loss < min(calibration.judges[judge.version].log_loss for judge in (GOOD, FAIR))
    agreeing = calibration.fuse([judgement(calibration, GOOD, 1.0), judgement(calibration, FAIR, 1.0)])
    assert agreeing is not None
    assert agreeing[0] > calibration.probability(GOOD.version, 1.0)


def test_a_missing_judge_falls_back_to_those_that_spoke(fitted):
    fused = fitted.fuse([judgement(fitted, GOOD, 1.0), failed(FAIR)])
    assert fused == (pytest.approx(fitted.probability(GOOD.version, 1.0)), (GOOD.version,))
    assert fitted.fuse([failed(GOOD), failed(FAIR)]) is None
    assert fitted.fuse([]) is None


def test_without_a_fusion_the_best_single_judge_decides(fitted):
    singles = Calibration(judges=fitted.judges)
    fused = singles.fuse([judgement(singles, FAIR, -2.0), judgement(singles, GOOD, 1.0)])
    assert fused == (singles.probability(GOOD.version, 1.0), (GOOD.version,))


def test_rows_on_which_a_judge_was_silent_are_left_out_of_its_fit():
    labels, scores = simulate(600)
    partial = [score if place < 200 else None for place, score in enumerate(scores[FAIR])]
    calibration = fit_calibration([GOOD, FAIR], [scores[GOOD], partial], labels)
    assert calibration.judges[GOOD.version].rows == 600
    assert calibration.judges[FAIR.version].rows == 200
    assert calibration.fusions[0].rows == 200


def test_the_file_round_trips_and_its_version_follows_its_content(fitted):
    again = Calibration.from_json(json.loads(json.dumps(fitted.to_json())))
    assert again == fitted
    assert again.version == fitted.version
    assert Calibration(judges=fitted.judges).version != fitted.version


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"format": "other"},
        {"format": "groundwatch.calibration.v1"},
        {"format": "groundwatch.calibration.v1", "judges": [{"version": "x"}], "fusions": []},
    ],
)
def test_a_file_that_is_no_calibration_is_refused(value):
    with pytest.raises(InvalidSettings, match="calibration"):
        Calibration.from_json(value)


def test_sigmoid_is_the_inverse_of_log_odds():
    assert sigmoid(math.log(3)) == pytest.approx(0.75)
    assert sigmoid(-1e4) == 0.0
    assert sigmoid(1e4) == 1.0
