import json
import math
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from monitor.domain.errors import InvalidSettings
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Judgement, Opinion, Tier, Unjudgeable
from monitor.domain.trace import Segment
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


# What the second format adds


def bent(rows=2000, seed=2):
    """Scores whose log-odds rise steeply below 0 and hardly above: no line fits them."""
    draw = np.random.default_rng(seed)
    scores = draw.uniform(-3, 3, size=rows)
    truth = 1 / (1 + np.exp(-np.where(scores < 0, 2 * scores, 0.2 * scores)))
    return scores.tolist(), (draw.random(rows) < truth).tolist(), truth


def test_the_line_is_preferred_and_the_curve_taken_where_it_is_clearly_better():
    labels, scores = simulate(600)
    assert calibrate_judge(GOOD, scores[GOOD], labels).isotonic is None
    bent_scores, bent_labels, truth = bent()
    curve = calibrate_judge(GOOD, bent_scores, bent_labels)
    assert curve.isotonic is not None
    said = np.array([curve.probability(score) for score in bent_scores])
    line = fit_platt(bent_scores, bent_labels).probabilities(bent_scores)
    assert np.abs(said - truth).mean() < 0.6 * np.abs(line - truth).mean()


def test_few_rows_keep_the_line_however_bent_the_truth():
    scores, labels, _ = bent(rows=400)
    assert calibrate_judge(GOOD, scores, labels).isotonic is None


def test_quality_comes_with_intervals_and_a_curve_of_held_out_rows(fitted):
    good = fitted.judges[GOOD.version]
    for name in ("auroc", "brier", "ece"):
        low, high = good.intervals[name]
        assert 0 <= low < high <= 1
    assert good.intervals["auroc"][0] < good.auroc < good.intervals["auroc"][1]
    assert sum(one.rows for one in good.reliability) == good.rows == 600
    assert good.calibration_error is not None
    assert good.calibration_error < 0.08
    assert good.tier is Tier.SCREEN


def test_held_out_probabilities_are_not_those_of_the_fit():
    # A judge that knows nothing and is free to follow the noise would look calibrated on its own rows.
    draw = np.random.default_rng(8)
    labels = (np.arange(1000) % 2 == 1).tolist()
    noise = calibrate_judge(NOISE, draw.normal(size=1000).tolist(), labels)
    assert noise.brier >= 0.2495
    assert not noise.informative


def with_segments(rows=2400, seed=3):
    """Two segments, in one of which hallucinations are rarer at every score."""
    draw = np.random.default_rng(seed)
    names = [("acme/help/production", "acme/sales/production")[row // 2 % 2] for row in range(rows)]
    scores = {judge: draw.normal(scale=1.5, size=rows) for judge in (GOOD, FAIR)}
    odds = scores[GOOD] + 0.7 * scores[FAIR] + np.where(np.array(names) == names[0], 0.9, -0.9)
    labels = draw.random(rows) < 1 / (1 + np.exp(-odds))
    return {judge: column.tolist() for judge, column in scores.items()}, labels.tolist(), names


def test_segments_are_told_apart_where_they_are_named_and_differ():
    scores, labels, names = with_segments()
    apart = fit_calibration([GOOD, FAIR], list(scores.values()), labels, segments=names)
    alike = fit_calibration([GOOD, FAIR], list(scores.values()), labels)
    (help_desk, sales) = dict.fromkeys(names)
    everywhere = alike.probability(GOOD.version, 0.0)
    assert apart.probability(GOOD.version, 0.0) == pytest.approx(everywhere)
    assert apart.probability(GOOD.version, 0.0, segment=help_desk) > everywhere + 0.1
    assert apart.probability(GOOD.version, 0.0, segment=sales) < everywhere - 0.1
    assert apart.probability(GOOD.version, 0.0, segment="acme/new/production") == pytest.approx(everywhere)
    assert alike.probability(GOOD.version, 0.0, segment=help_desk) == everywhere


def test_a_segment_counts_once_however_many_judges_know_it():
    scores, labels, names = with_segments()
    calibration = fit_calibration([GOOD, FAIR], list(scores.values()), labels, segments=names)
    segment = Segment(tenant="acme", service="help", environment="production")
    heard = [
        replace(
            judgement(calibration, judge, 0.0), probability=calibration.probability(judge.version, 0.0, segment=segment)
        )
        for judge in (GOOD, FAIR)
    ]
    fused = calibration.fuse(heard, segment=segment)
    assert fused is not None
    assert fused[0] == pytest.approx(sigmoid(0.9), abs=0.05)
    # The sum of what both say would have been about sigmoid(1.6).
    assert fused[0] < 0.77


def test_asking_a_dearer_judge_has_a_prospect_for_whoever_has_spoken():
    labels, scores = simulate(1200)
    calibration = fit_calibration(list(scores), list(scores.values()), labels)
    spoken = [judgement(calibration, GOOD, 0.0)]
    prospect = calibration.prospect(spoken, Tier.POOL, probability=0.5, threshold=0.5)
    assert prospect is not None
    assert 0.05 < prospect.miss + prospect.false_alarm < 0.4
    sure = calibration.prospect([judgement(calibration, GOOD, 4.0)], Tier.POOL, probability=0.98, threshold=0.5)
    assert sure is not None
    assert sure.miss + sure.false_alarm < 0.05
    assert calibration.prospect(spoken, Tier.POOL, probability=None, threshold=0.5) is None
    assert calibration.prospect([], Tier.POOL, probability=0.5, threshold=0.5) is None
    assert calibration.prospect(spoken, Tier.SCREEN, probability=0.5, threshold=0.5) is None
    # The guesser's word changes nothing, so asking it leaves what there is.
    guess = calibration.prospect(spoken, Tier.EDGE, probability=0.3, threshold=0.5)
    assert guess is not None
    assert (guess.miss, guess.false_alarm) == (pytest.approx(0.3, abs=0.01), pytest.approx(0.0, abs=0.01))


def test_files_of_the_first_format_are_read():
    old = {
        "format": "groundwatch.calibration.v1",
        "judges": [
            {"version": "screen@1", "model": "m", "slope": 2.0, "intercept": -1.0, "prior": 0.5, "rows": 100}
            | {"auroc": 0.8, "brier": 0.2, "ece": 0.1, "log_loss": 0.5, "informative": True}
        ],
        "fusions": [{"weights": {"screen@1": 1.0}, "bias": 0.0, "prior": 0.5, "rows": 100, "log_loss": 0.5}],
    }
    calibration = Calibration.from_json(old)
    assert calibration.probability("screen@1", 0.5) == pytest.approx(0.5)
    assert calibration.transitions == ()
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_another_format_says_what_to_do():
    with pytest.raises(InvalidSettings, match="groundwatch calibrate"):
        Calibration.from_json({"format": "groundwatch.calibration.v9"})


def test_everything_round_trips():
    scores, labels, names = with_segments()
    calibration = fit_calibration([GOOD, FAIR], list(scores.values()), labels, segments=names)
    bent_scores, bent_labels, _ = bent()
    curve = calibrate_judge(NOISE, bent_scores, bent_labels)
    calibration = replace(calibration, judges=MappingProxyType({**calibration.judges, NOISE.version: curve}))
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    assert again == calibration
    assert again.version == calibration.version
    assert calibration.transitions
    assert calibration.fusions[0].segments
    assert again.judges[NOISE.version].isotonic is not None


@pytest.mark.parametrize(
    "damage",
    [
        {"judges": [{"version": "x", "tier": "cellar"}]},
        {"judges": [], "transitions": [{"given": ["a"], "asked": "b", "hallucinated": {}, "faithful": {}, "rows": 1}]},
        {"judges": "none"},
        {"judges": [], "fusions": [[]]},
    ],
)
def test_damage_to_the_second_format_is_refused(damage):
    value = {"format": "groundwatch.calibration.v2", "judges": [], "fusions": [], "transitions": []}
    with pytest.raises(InvalidSettings, match="damaged"):
        Calibration.from_json(value | damage)
