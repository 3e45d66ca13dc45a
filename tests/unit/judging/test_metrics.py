import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, brier_score_loss, f1_score, roc_auc_score

from monitor.judging.metrics import accuracy, auroc, balanced_accuracy, brier, ece, f1


@pytest.fixture(params=range(5))
def rows(request):
    generator = np.random.default_rng(request.param)
    labels = generator.random(200) < 0.3
    # Rounded, so that there are ties.
    return (labels * 0.2 + generator.random(200) * 0.8).round(2), labels


def test_auroc_is_scikit_learns(rows):
    assert auroc(*rows) == pytest.approx(roc_auc_score(rows[1], rows[0]))


def test_balanced_accuracy_is_scikit_learns(rows):
    scores, labels = rows

    assert balanced_accuracy(scores > 0.5, labels) == pytest.approx(balanced_accuracy_score(labels, scores > 0.5))


def test_accuracy_and_f1_are_scikit_learns(rows):
    scores, labels = rows
    assert accuracy(scores > 0.5, labels) == pytest.approx(accuracy_score(labels, scores > 0.5))
    assert f1(scores > 0.5, labels) == pytest.approx(f1_score(labels, scores > 0.5))


def test_f1_of_nothing_caught_is_nought():
    assert f1([False, False], [True, False]) == 0
    assert f1([False, False], [False, False]) == 0


def test_brier_is_scikit_learns(rows):
    assert brier(*rows) == pytest.approx(brier_score_loss(rows[1], rows[0]))


def test_ece_by_hand():
    # Two bins: mean probability 0.15 against no failure, mean 0.9 against one half.
    assert ece([0.1, 0.2, 0.9, 0.9], [False, False, True, False], bins=2) == pytest.approx((0.15 + 0.4) / 2)


def test_ece_of_certainty_that_is_right_is_nought():
    assert ece([0.0, 1.0], [False, True]) == 0


@pytest.mark.parametrize("metric", [auroc, balanced_accuracy])
@pytest.mark.parametrize("label", [True, False])
def test_one_label_alone_is_refused(metric, label):
    with pytest.raises(ValueError, match="both labels"):
        metric([0.1, 0.9], [label, label])


@pytest.mark.parametrize("metric", [accuracy, auroc, balanced_accuracy, brier, ece, f1])
def test_scores_and_labels_must_be_as_many_and_some(metric):
    with pytest.raises(ValueError, match="one each"):
        metric([0.1], [True, False])
    with pytest.raises(ValueError, match="no rows"):
        metric([], [])
