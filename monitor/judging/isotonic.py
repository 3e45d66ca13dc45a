"""Isotonic calibration: any rising curve from raw score to probability."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from monitor.judging.odds import Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Isotonic:
    """A curve through knots, straight between them and level beyond the first and the last.

    Attributes:
        scores: raw scores of the knots, rising.
        values: probability of *hallucinated* at each knot, never falling.
    """

    scores: tuple[float, ...]
    values: tuple[float, ...]

    def probability(self, raw_score: float) -> float:
        """Calibrated probability of *hallucinated*."""
        return float(self.probabilities(raw_score))

    def probabilities(self, raw_scores: ArrayLike) -> Floats:
        """Calibrated probabilities of *hallucinated*, one a score."""
        return np.asarray(np.interp(np.asarray(raw_scores, dtype=np.float64), self.scores, self.values))


def fit_isotonic(scores: ArrayLike, labels: Sequence[bool] | ArrayLike) -> Isotonic:
    """Fit by pooling adjacent violators, with a knot at each pool's mean score.

    Knots in the middle keep the order of scores within a pool (centred isotonic regression; Oron and Flournoy
    2017). A pool of n rows, k of them hallucinated, has the value (k + 1/2) / (n + 1), so that no pool is certain.

    Args:
        scores: raw scores, finite, higher for *hallucinated*.
        labels: True for hallucinated; both labels must occur.

    Raises:
        ValueError: only one label occurs.
    """
    raw, target = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if target.min(initial=1.0) == target.max(initial=0.0) or not len(target):
        raise ValueError("both labels must occur")
    unique, place = np.unique(raw, return_inverse=True)
    rows = np.bincount(place).astype(np.float64)
    hallucinated = np.bincount(place, weights=target)
    pools = isotonic_regression(hallucinated / rows, weights=rows).blocks[:-1]
    count, positive = np.add.reduceat(rows, pools), np.add.reduceat(hallucinated, pools)
    centres = np.add.reduceat(unique * rows, pools) / count
    # Drawn towards one half by their sizes, neighbouring pools may have changed places: pooled once more.
    values = isotonic_regression((positive + 0.5) / (count + 1.0), weights=count).x
    return Isotonic(scores=tuple(map(float, centres)), values=tuple(map(float, values)))
