import json

import numpy as np
import pytest

from monitor.benchmarks.figures import Answered, averaged, cost_of, measured
from monitor.benchmarks.labelled import read_labelled
from monitor.benchmarks.ranking import Column, Fitted, rank
from monitor.benchmarks.report import HEADINGS, to_json, to_markdown
from monitor.benchmarks.scores import Score
from monitor.domain.judgement import JudgeIdentity, Tier
from monitor.judging.calibration_fit import fit_calibration
from tests.examples.labelled import labelled, written

SAMPLES = 200


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return read_labelled([written(folder / f"{name}.jsonl", labelled(name, 60)) for name in "abc"])


def identity(name, kind="gguf"):
    return JudgeIdentity(name=kind, tier=Tier.EDGE, model=name, model_digest=name)


def simulated(name, rows, *, skill, seed=0, kind="gguf", silent=0):
    draw = np.random.default_rng(seed)
    scores = [
        Score(
            score=None if place < silent else float(skill * row.hallucinated + draw.normal()),
            reason="too_long" if place < silent else None,
            seconds=0.5,
            busy_seconds=0.25,
            prompt_tokens=100,
            cost_usd=0.001,
        )
        for place, row in enumerate(rows)
    ]
    return Column(name=name, identity=identity(name, kind), scores=scores)


def test_the_best_judge_comes_first(rows):
    columns = [simulated(name, rows, skill=skill, seed=3) for name, skill in (("weak", 0.3), ("strong", 2.5))]
    assert [one.name for one in rank(rows, columns, samples=SAMPLES)] == ["strong", "weak"]


def test_the_same_scores_give_the_same_text(rows):
    columns = [simulated(name, rows, skill=1.0, seed=seed) for seed, name in enumerate(("x", "y"))]
    first, second = (rank(rows, columns, samples=SAMPLES) for _ in range(2))
    assert json.dumps(to_json(first)) == json.dumps(to_json(second))
    assert to_markdown(first) == to_markdown(second)


def test_a_data_sets_own_labels_have_no_say_in_its_probabilities(rows):
    column = simulated("x", rows, skill=1.0)
    before = rank(rows, [column], samples=SAMPLES)[0]
    shifted = [
        Score(score=score.score + (100.0 if row.file == "a" else 0.0))
        for row, score in zip(rows, column.scores, strict=True)
    ]
    after = rank(rows, [Column(name="x", identity=column.identity, scores=shifted)], samples=SAMPLES)[0]

    assert before.fitted is after.fitted is Fitted.LEFT_OUT
    # What was moved far beyond the others' scores is all called hallucinated; a calibration that had seen it would not.
    assert after.data_sets["a"].metrics["balanced_accuracy"].value == 0.5
    assert before.data_sets["a"].metrics["balanced_accuracy"].value > 0.6
    assert after.data_sets["a"].metrics["auroc"] == before.data_sets["a"].metrics["auroc"]


def test_one_collection_alone_is_calibrated_by_folds(rows):
    own = [row for row in rows if row.file == "a"]
    ranked = rank(own, [simulated("x", own, skill=2.0)], samples=SAMPLES)[0]
    assert ranked.fitted is Fitted.FOLDS
    assert ranked.pooled.metrics["balanced_accuracy"].value > 0.7


def test_the_settings_calibration_is_used_for_whom_it_knows(rows):
    known, unknown = (simulated(name, rows, skill=1.5, seed=2) for name in ("known", "unknown"))
    scores = [score.score for score in known.scores]
    calibration = fit_calibration([known.identity], [scores], [row.hallucinated for row in rows])
    fitted = {one.name: one.fitted for one in rank(rows, [known, unknown], calibration=calibration, samples=SAMPLES)}
    assert fitted == {"known": Fitted.SETTINGS, "unknown": Fitted.LEFT_OUT}


def test_a_cascades_probabilities_are_its_own(rows):
    assert rank(rows, [simulated("c", rows, skill=1.0, kind="cascade")], samples=SAMPLES)[0].fitted is Fitted.OWN


def test_silence_is_counted_and_not_scored(rows):
    ranked = rank(rows, [simulated("x", rows, skill=1.0, silent=18)], samples=SAMPLES)[0]
    assert ranked.pooled.cost.unjudged == 0.1
    assert ranked.pooled.cost.reasons == {"too_long": 18}
    assert "no score for too_long 18" in to_markdown([ranked])


def test_rows_that_were_not_asked_about_are_no_part_of_the_figures(rows):
    column = simulated("x", rows, skill=1.0)
    half = [score if place % 4 < 2 else None for place, score in enumerate(column.scores)]
    ranked = rank(rows, [Column(name="x", identity=column.identity, scores=half)], samples=SAMPLES)[0]
    assert ranked.pooled.cost.rows == 90
    assert not rank(rows, [Column(name="x", identity=column.identity, scores=[None] * len(rows))], samples=SAMPLES)


def test_a_judge_that_never_speaks_has_no_metrics(rows):
    ranked = rank(rows, [simulated("x", rows, skill=1.0, silent=len(rows))], samples=SAMPLES)[0]
    assert set(ranked.mean.metrics.values()) == {None}
    assert ranked.mean.cost.unjudged == 1.0


def test_intervals_hold_the_true_auroc_about_as_often_as_they_say(rows):
    # Unit normal scores, a unit apart: the true AUROC is Phi(1 / sqrt 2).
    inside = 0
    for seed in range(60):
        column = simulated("x", rows, skill=1.0, seed=seed)
        answers = [
            Answered(row=row, score=score, probability=None) for row, score in zip(rows, column.scores, strict=True)
        ]
        parts = [[one for one in answers if one.row.file == name] for name in "abc"]
        inside += averaged(parts, samples=SAMPLES).metrics["auroc"].holds(0.76025)
    assert inside >= 50


def test_costs_are_a_trace_and_throughput_is_of_the_whole_run():
    found = cost_of([Score(score=0.0, seconds=2.0, busy_seconds=0.5, prompt_tokens=10, cost_usd=0.002)] * 4)
    assert (found.traces_per_second, found.p50_seconds, found.usd_per_1000_traces) == (2.0, 2.0, 2.0)
    assert cost_of([Score(score=0.0)]).traces_per_second is None


def test_figures_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no answers"):
        measured([])


def test_json_and_markdown_have_the_shape_that_readers_rely_on(rows):
    ranked = rank(rows, [simulated("x|y", rows, skill=1.0)], samples=SAMPLES)
    (judge,) = to_json(ranked)["judges"]
    assert set(judge) == {
        "rank",
        "judge",
        "version",
        "model",
        "probabilities_fitted_on",
        "rows_seen_in_training",
        "mean",
        "pooled",
        "data_sets",
    }
    assert set(judge["data_sets"]) == {"a", "b", "c"}
    assert set(judge["mean"]["auroc"]) == {"value", "low", "high"}
    assert judge["mean"]["auroc"]["low"] < judge["mean"]["auroc"]["value"] < judge["mean"]["auroc"]["high"]
    assert {"rows", "unjudged", "usd_per_1000_traces", "traces_per_second", "p50_seconds"} < set(judge["pooled"])
    text = to_markdown(ranked)
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert titles == [
        "# Judges, ranked by mean AUROC",
        "## Mean over the data sets",
        "## All rows together",
        "## a",
        "## b",
        "## c",
        "## Versions",
    ]
    assert f"| {' | '.join(HEADINGS)} |" in text
    assert "| x\\|y | 180 |" in text
