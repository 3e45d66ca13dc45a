"""How good scores and probabilities are, against labels.

Throughout, `labels` is true for *hallucinated*, and higher scores mean *more likely hallucinated*.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Labels = Sequence[bool] | NDArray[np.bool_]


def auroc(scores: ArrayLike, labels: Labels) -> float:
    """Probability that a random hallucinated answer scores above a random faithful one; ties count half.

    Raises:
        ValueError: both labels must occur, or the lengths differ.
    """
    values, positive = _aligned(scores, labels)
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        raise ValueError("both labels must occur")
    rank_sum = float(_mid_ranks(values)[positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def _mid_ranks(values: Floats) -> Floats:
    """Rank from 1, with equal values sharing the mean of their ranks (Mann and Whitney 1947)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2.0)[inverse]
    return ranks


def balanced_accuracy(predicted: ArrayLike, labels: Labels) -> float:
    """Mean of the shares of either label that were predicted right; 0.5 is chance.

    Args:
        predicted: true where the answer was called hallucinated.
        labels: the truth.

    Raises:
        ValueError: both labels must occur, or the lengths differ.
    """
    called, positive = _aligned(predicted, labels)
    if positive.all() or not positive.any():
        raise ValueError("both labels must occur")
    return float((called[positive].mean() + (1.0 - called[~positive]).mean()) / 2.0)


def accuracy(predicted: ArrayLike, labels: Labels) -> float:
    """Share of the rows that were predicted right.

    Raises:
        ValueError: there are no rows, or the lengths differ.
    """
    called, positive = _aligned(predicted, labels)
    return float((called.astype(bool) == positive).mean())


def f1(predicted: ArrayLike, labels: Labels) -> float:
    """Harmonic mean of precision and recall of *hallucinated*; 0 where nothing was caught.

    Raises:
        ValueError: there are no rows, or the lengths differ.
    """
    called, positive = _aligned(predicted, labels)
    caught = float(called[positive].sum())
    named = float(called.sum() + positive.sum())
    return 2.0 * caught / named if named else 0.0


def brier(probabilities: ArrayLike, labels: Labels) -> float:
    """Mean squared difference between probability and outcome (Brier 1950); 0 is perfect.

    Raises:
        ValueError: there are no rows, or the lengths differ.
    """
    values, positive = _aligned(probabilities, labels)
    return float(((values - positive) ** 2).mean())


def ece(probabilities: ArrayLike, labels: Labels, *, bins: int = 10) -> float:
    """Expected calibration error: mean gap between probability and frequency over bins of equal width.

    Bins are weighted by their rows (Naeini et al. 2015, with the probability of *hallucinated* throughout).

    Raises:
        ValueError: there are no rows, or the lengths differ.
    """
    values, positive = _aligned(probabilities, labels)
    places = np.clip((values * bins).astype(np.intp), 0, bins - 1)
    gaps = np.bincount(places, weights=values - positive, minlength=bins)
    return float(np.abs(gaps).sum() / len(values))


def _aligned(values: ArrayLike, labels: Labels) -> tuple[Floats, NDArray[np.bool_]]:
    numbers = np.asarray(values, dtype=np.float64)
    positive = np.asarray(labels, dtype=bool)
    if numbers.shape != positive.shape or numbers.ndim != 1:
        raise ValueError(f"{numbers.shape} values for {positive.shape} labels: one each, in one row")
    if not len(numbers):
        raise ValueError("there are no rows")
    return numbers, positive
