from functools import partial

import numpy as np
import pytest

from monitor.judging.bootstrap import Interval, bootstrap, interval, resamples
from monitor.judging.metrics import accuracy, auroc, balanced_accuracy, brier, ece, f1

METRICS = (accuracy, auroc, balanced_accuracy, brier, ece, f1)


def rows(count=150, seed=3):
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 3 == 0
    # Rounded, so that there are ties.
    return (labels * 0.3 + draw.random(count) * 0.7).round(2), labels


@pytest.mark.parametrize("metric", METRICS)
def test_many_resamples_at_once_give_what_one_by_one_gives(metric):
    values, labels = rows()
    if metric in (accuracy, balanced_accuracy, f1):
        values = values > 0.5
    at_once = bootstrap(metric, values, labels, seed=5, samples=60)
    one_by_one = bootstrap(partial(metric), values, labels, seed=5, samples=60)
    assert (at_once.value, at_once.low, at_once.high) == pytest.approx(
        (one_by_one.value, one_by_one.low, one_by_one.high)
    )
    assert at_once.low < at_once.high


def test_every_resample_keeps_the_strata():
    _, labels = rows()
    names = ["a" if row < 40 else "b" for row in range(len(labels))]
    (counts,) = resamples(labels, seed=1, samples=20, strata=names)
    inside = np.array(names) == "a"
    assert (counts[:, inside & labels].sum(axis=1) == (inside & labels).sum()).all()
    assert (counts[:, ~inside & ~labels].sum(axis=1) == (~inside & ~labels).sum()).all()


def test_large_tables_are_drawn_in_blocks():
    labels = np.arange(50_000) % 2 == 0
    blocks = resamples(labels, seed=1, samples=100)
    assert len(blocks) > 1
    assert sum(len(block) for block in blocks) == 100


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    truth, covered = 0.7602, 0  # the area under the curve of two unit normals one apart
    for seed in range(200):
        draw = np.random.default_rng(seed)
        labels = np.arange(200) % 2 == 0
        scores = labels + draw.normal(size=200)
        covered += bootstrap(auroc, scores, labels, seed=seed, samples=200).holds(truth)
    assert 180 <= covered <= 199


def test_the_same_seed_gives_the_same_interval():
    assert bootstrap(auroc, *rows(), seed=1, samples=50) == bootstrap(auroc, *rows(), seed=1, samples=50)
    assert bootstrap(auroc, *rows(), seed=1, samples=50) != bootstrap(auroc, *rows(), seed=2, samples=50)


def test_one_label_alone_is_refused_where_the_metric_refuses_it():
    with pytest.raises(ValueError, match="both labels"):
        bootstrap(auroc, [0.1, 0.2], [True, True], seed=1)


def test_an_interval_holds_its_ends():
    found = interval(0.5, np.linspace(0, 1, 1001), level=0.9)
    assert found == Interval(value=0.5, low=pytest.approx(0.05), high=pytest.approx(0.95))
    assert found.holds(found.low)
    assert not found.holds(0.99)
