"""Platt scaling: a straight line from raw score to log-odds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from monitor.judging.logistic import fit_bounded
from monitor.judging.odds import Floats

_BOUNDS = np.array([0.0, -np.inf])


@dataclass(frozen=True, kw_only=True, slots=True)
class Platt:
    """`P(hallucinated) = sigmoid(slope * raw_score + intercept)`."""

    slope: float
    intercept: float

    def probability(self, raw_score: float) -> float:
        """Calibrated probability of *hallucinated*."""
        return float(self.probabilities(raw_score))

    def probabilities(self, raw_scores: ArrayLike) -> Floats:
        """Calibrated probabilities of *hallucinated*, one a score."""
        return np.asarray(expit(self.slope * np.asarray(raw_scores, dtype=np.float64) + self.intercept))


def fit_platt(scores: ArrayLike, labels: Sequence[bool] | ArrayLike) -> Platt:
    """Fit with the regularised targets of Platt (1999), so that separable scores stay finite.

    The slope is kept at 0 or above: scores that point the wrong way are a broken judge, not an inverted one.

    Args:
        scores: raw scores, finite, higher for *hallucinated*.
        labels: True for hallucinated; both labels must occur.
    """
    raw = np.asarray(scores, dtype=np.float64)
    target = regularised_target(labels)
    # Fitted on standardised scores: log-odds from different models differ by orders of magnitude.
    centre, spread = float(raw.mean()), float(raw.std()) or 1.0
    features = np.column_stack([(raw - centre) / spread, np.ones(len(raw))])
    found = fit_bounded(features, target, penalty=np.zeros(2), lower=_BOUNDS, start=np.array([1.0, 0.0]))
    slope, intercept = (float(number) for number in found)
    return Platt(slope=slope / spread, intercept=intercept - slope * centre / spread)


def regularised_target(labels: Sequence[bool] | ArrayLike) -> Floats:
    """What each row is fitted to: a little short of certainty, by one imagined row of the other kind a label.

    Raises:
        ValueError: only one label occurs.
    """
    positive = np.asarray(labels, dtype=bool)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        raise ValueError("both labels must occur")
    return np.asarray(np.where(positive, (positives + 1) / (positives + 2), 1 / (negatives + 2)))
