from dataclasses import replace

import numpy as np
import pytest

from monitor.benchmarks.figures import cost_of
from monitor.benchmarks.labelled import read_labelled
from monitor.benchmarks.left_out import leave_out
from monitor.benchmarks.left_out_report import left_out_json, left_out_markdown
from monitor.benchmarks.nested_screen import NestedScreens, steps
from monitor.benchmarks.scores import Score
from monitor.domain.errors import InvalidInput
from monitor.judging.metrics import auroc
from monitor.training.screen import measure, train, training_rows
from tests.examples.labelled import labelled, written

SAMPLES = 300
COST = cost_of([Score(score=0.0, seconds=1.0, prompt_tokens=300)])


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return read_labelled([written(folder / f"{name}.jsonl", labelled(name, 120)) for name in "abcd"])


def judge(rows, skill, seed):
    draw = np.random.default_rng(seed)
    return [float(skill * row.hallucinated + draw.normal()) for row in rows]


def fused(rows, scores, **options):
    return leave_out(rows, lambda _: scores, dict.fromkeys(scores, COST), samples=SAMPLES, **options)


def test_two_judges_with_independent_errors_are_better_together(rows):
    found = fused(rows, {"x": judge(rows, 1.2, 1), "y": judge(rows, 1.2, 2)})
    assert found.fusions == ("x + y",)
    assert found.gains["x + y"].low > 0
    # d' of sqrt(2) * 1.2 together: AUROC Phi(1.2) against Phi(1.2 / sqrt 2) alone.
    assert found.means["x + y"].holds(0.885)
    assert all(found.adds[name].low > 0 for name in "xy")


def test_noise_adds_nothing_and_its_weight_is_near_zero(rows):
    found = fused(rows, {"x": judge(rows, 1.5, 1), "noise": judge(rows, 0.0, 2)})
    assert found.best_single == "x"
    assert abs(found.adds["noise"].value) < 0.02
    assert max(abs(weights["noise"]) for weights in found.weights.values()) < 0.3


def test_all_sets_of_three_judges_are_fused_the_whole_last(rows):
    found = fused(rows, {name: judge(rows, 1.0, seed) for seed, name in enumerate("xyz")})
    assert found.fusions == ("x + y", "x + z", "y + z", "x + y + z")
    assert set(found.data_sets) == {"a", "b", "c", "d"}
    assert found.adds["z"].value == pytest.approx(found.means["x + y + z"].value - found.means["x + y"].value)


def test_what_is_left_out_is_asked_for_by_collection_and_its_labels_are_not_used(rows):
    asked = []

    def without(collection):
        asked.append(collection)
        # Perfect on everything but what is left out, where it is upside down: weights cannot have seen that.
        flip = [-1 if row.file == collection else 1 for row in rows]
        draw = np.random.default_rng(5)
        return {
            "x": [sign * (3.0 * row.hallucinated - 1.5) + draw.normal() for sign, row in zip(flip, rows, strict=True)],
            "y": judge(rows, 0.5, 3),
        }

    found = leave_out(rows, without, {"x": COST, "y": COST}, samples=SAMPLES)
    assert sorted(asked) == ["a", "b", "c", "d"]
    assert found.means["x + y"].high < 0.5


def test_rows_on_which_a_judge_was_silent_are_left_out_and_counted(rows):
    scores = {"x": judge(rows, 1.0, 1), "y": [None, *judge(rows, 1.0, 2)[1:]]}
    found = fused(rows, scores)
    assert (found.rows, found.skipped) == (len(rows) - 1, 1)


def test_the_same_scores_give_the_same_report(rows):
    scores = {"x": judge(rows, 1.0, 1), "y": judge(rows, 1.0, 2)}
    one, other = (fused(rows, scores) for _ in range(2))
    assert left_out_json(one) == left_out_json(other)
    text = left_out_markdown(one)
    assert "| less " in text
    assert "## What each judge adds and costs" in text
    assert set(left_out_json(one)["auroc"]["a"]) == {"x", "y", "x + y"}


@pytest.mark.parametrize(("judges", "files"), [(("x",), "abc"), (("x", "y"), "ab")])
def test_too_few_judges_or_collections_are_refused(rows, judges, files):
    few = [row for row in rows if row.file in files]
    with pytest.raises(ValueError, match="need 2 and 3"):
        fused(few, {name: judge(few, 1.0, 1) for name in judges})


def test_a_nested_screen_saw_neither_what_is_left_out_nor_the_rows_own_collection(rows):
    screens = NestedScreens(rows, rows)
    usable = training_rows(rows, held_out=(), held_out_ids=frozenset())
    for left_out, own in (("a", "a"), ("a", "b"), ("c", "d")):
        model = train([row for row in usable if row.file not in {left_out, own}])
        asked = [place for place, row in enumerate(rows) if row.file == own]
        scores = screens.scores(left_out)
        table = measure([rows[place] for place in asked])
        np.testing.assert_allclose([scores[place] for place in asked], model.score(table.features), atol=2e-3)


def test_a_file_of_two_families_is_left_out_whole(tmp_path):
    paths = [written(tmp_path / f"{name}.jsonl", labelled(name, 80)) for name in "abc"]
    mixed = labelled("m", 40, family="one") + [
        {**row, "id": f"second-{row['id']}"} for row in labelled("m", 80, family="two")[40:]
    ]
    paths.append(written(tmp_path / "m.jsonl", mixed))
    rows = read_labelled(paths)
    ticks = []
    screens = NestedScreens(rows, rows, lambda: ticks.append(1))
    assert len(ticks) == steps(rows) == 4
    # Labels of the mixed file turned round teach its own screens nothing.
    turned = [replace(row, hallucinated=row.hallucinated != (row.file == "m")) for row in rows]
    own = [place for place, row in enumerate(rows) if row.file == "m"]
    before, after = screens.scores("m"), NestedScreens(turned, turned).scores("m")
    assert [before[place] for place in own] == [after[place] for place in own]
    assert auroc([before[place] for place in own], [rows[place].hallucinated for place in own]) > 0.9


def test_answers_without_a_word_have_no_score(rows, tmp_path):
    silent = [{**row, "answer": "…"} for row in labelled("s", 2)]
    asked = [*rows, *read_labelled([written(tmp_path / "a.jsonl", silent)])]
    assert NestedScreens(rows, asked).scores("b")[-2:] == [None, None]


def test_data_that_no_screen_can_be_trained_on_is_refused(tmp_path):
    paths = [
        written(tmp_path / f"{name}.jsonl", [row for row in labelled(name, 40) if row["label"] == "PASS"])
        for name in "ab"
    ]
    rows = read_labelled(paths)
    with pytest.raises(InvalidInput, match="too few rows"):
        NestedScreens(rows, rows)
