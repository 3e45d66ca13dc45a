import numpy as np
import pytest

from monitor.judging.left_out import FUSED, leave_group_out


def simulate(rows=600, seed=1, **strengths):
    draw = np.random.default_rng(seed)
    labels = np.arange(rows) % 2 == 1
    groups = [f"set{(row // 2) % 4}" for row in range(rows)]
    scores = {name: (labels * d + draw.normal(size=rows)).tolist() for name, d in strengths.items()}
    return scores, labels.tolist(), groups


def test_independent_judges_gain_by_fusion_and_noise_adds_nothing():
    found = leave_group_out(*simulate(good=1.6, fair=1.2, noise=0.0), samples=300)
    assert found.best_single == "good"
    assert found.gain.low > 0
    assert found.gain.value == pytest.approx(found.means[FUSED].value - found.means["good"].value)
    assert found.adds["good"].low > 0
    assert found.adds["fair"].low > 0
    assert abs(found.adds["noise"].value) < 0.01
    assert [group.name for group in found.groups] == ["set0", "set1", "set2", "set3"]
    assert all(group.rows == 150 and group.hallucinated == 75 for group in found.groups)


def test_a_mean_counts_each_group_the_same():
    scores, labels, groups = simulate(a=1.0, b=0.5)
    few = ["set0" if group == "set0" and row < 40 else "rest" for row, group in enumerate(groups)]
    found = leave_group_out(scores, labels, few, samples=50)
    for name in ("a", "b", FUSED):
        assert found.means[name].value == pytest.approx(np.mean([group.aurocs[name].value for group in found.groups]))


def test_the_left_out_group_decides_nothing_of_its_own_fit():
    scores, labels, groups = simulate(a=1.5, b=1.0)
    upside_down = [not label if group == "set1" else label for label, group in zip(labels, groups, strict=True)]
    before = leave_group_out(scores, labels, groups, samples=20).groups[1]
    after = leave_group_out(scores, upside_down, groups, samples=20).groups[1]
    assert before.weights == after.weights
    assert after.aurocs[FUSED].value == pytest.approx(1 - before.aurocs[FUSED].value)


def test_choosing_a_judge_by_the_other_groups_is_no_better_than_knowing_the_best():
    _, labels, _ = simulate()
    groups = ["left" if row < 300 else "right" for row in range(600)]
    draw = np.random.default_rng(3)

    def knows(group, strength):
        inside = np.array(groups) == group
        return (strength * inside * np.array(labels) + draw.normal(size=600)).tolist()

    found = leave_group_out({"x": knows("left", 3.0), "y": knows("right", 2.0)}, labels, groups, samples=100)
    assert found.best_single == "x"
    # On either side the judge that looked best on the other side guesses.
    chosen = found.means[FUSED].value - found.chosen_single_gain.value
    assert chosen == pytest.approx(0.5, abs=0.08)
    assert chosen < found.means["x"].value - 0.1


def test_rows_on_which_a_judge_was_silent_are_counted_and_left_out():
    scores, labels, groups = simulate(a=1.5, b=1.0)
    scores["b"][:10] = [None] * 10
    found = leave_group_out(scores, labels, groups, samples=20)
    assert found.skipped == 10
    assert sum(group.rows for group in found.groups) == 590


def test_one_judge_alone_is_its_own_fusion():
    found = leave_group_out(*simulate(a=1.5), samples=20)
    assert (found.gain.value, found.gain.low, found.gain.high) == (0, 0, 0)
    assert found.adds == {}


@pytest.mark.parametrize("groups", [["one"] * 40, ["first" if row % 2 else "second" for row in range(40)]])
def test_groups_that_cannot_be_left_out_are_refused(groups):
    labels = [row % 2 == 1 for row in range(40)]
    with pytest.raises(ValueError, match=r"need two|both labels"):
        leave_group_out({"a": [float(label) for label in labels]}, labels, groups)
