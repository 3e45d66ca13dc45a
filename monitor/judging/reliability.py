"""How far probabilities can be taken at their word: reliability curves and errors of calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitor.domain.rate import wilson
from monitor.judging.odds import Floats

BINS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Rows of about the same probability.

    Attributes:
        predicted: their mean probability.
        observed: the share of them that is hallucinated, with a Wilson interval of 95 %.
    """

    predicted: float
    observed: float
    low: float
    high: float
    rows: int


def reliability_curve(probabilities: ArrayLike, labels: Sequence[bool] | ArrayLike, *, bins: int = BINS) -> list[Bin]:
    """The curve over bins of equal mass, from the least probability to the greatest; fewer bins for few rows."""
    values, positive = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=bool)
    curve = []
    for inside in _equal_mass(values, bins):
        hits, rows = int(positive[inside].sum()), len(inside)
        rate = wilson(hits, rows)
        assert rate is not None, "no bin is empty"
        predicted = float(values[inside].mean())
        curve.append(Bin(predicted=predicted, observed=rate.value, low=rate.low, high=rate.high, rows=rows))
    return curve


def calibration_error(
    probabilities: ArrayLike, labels: Sequence[bool] | ArrayLike, held_out: Sequence[NDArray[np.bool_]]
) -> float:
    """Root of the mean squared gap between probability and frequency, without the part that chance makes.

    The plain expected calibration error of perfect probabilities is not 0 but about 0.03 for 1,000 rows in ten
    bins, and it is too low again where rows of all folds are pooled, since each fold's errors are mirrored in the
    fits of the others. So the squared gap is taken within each fold, less its sampling variance (the unbiased
    estimator of Kumar, Liang and Ma 2019), and averaged. In expectation it is no less than the expected
    calibration error over the same bins, being its quadratic mean.

    Args:
        probabilities: of *hallucinated*, each from a fit that did not see its row.
        labels: True for hallucinated.
        held_out: masks of the folds.
    """
    values, positive = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=bool)
    squares = [_squared(values[fold], positive[fold]) * fold.sum() for fold in held_out]
    return math.sqrt(max(0.0, sum(squares) / len(values)))


def _squared(values: Floats, positive: NDArray[np.bool_]) -> float:
    total = 0.0
    for inside in _equal_mass(values, BINS):
        rows, observed = len(inside), float(positive[inside].mean())
        if rows > 1:
            chance = observed * (1.0 - observed) / (rows - 1)
            total += rows * ((float(values[inside].mean()) - observed) ** 2 - chance)
    return total / len(values)


def _equal_mass(values: Floats, bins: int) -> list[NDArray[np.intp]]:
    order = np.argsort(values, kind="stable")
    return [inside for inside in np.array_split(order, min(bins, len(values))) if len(inside)]
