"""Small logistic regressions with lower bounds, by projected Newton steps (Bertsekas 1982).

A handful of parameters and thousands of fits, one for each fold of each candidate: a general optimiser spends its
time on its own bookkeeping.
"""

import numpy as np
from scipy.special import expit

from monitor.judging.odds import Floats

_MOST_STEPS = 60
_PRECISION = 1e-9
_HALVINGS = 30
_FLOOR = 1e-9
"""Least curvature: a column that never varies leaves its parameter where it is."""


def fit_bounded(
    features: Floats, target: Floats, *, offset: Floats | float = 0.0, penalty: Floats, lower: Floats, start: Floats
) -> Floats:
    """The parameters that minimise the mean log loss plus half the sum of `penalty * parameter ** 2`.

    Args:
        features: `[rows, parameters]`; a column of ones is the intercept.
        target: one a row, 0 to 1.
        offset: added to every row's log-odds.
        penalty: one a parameter, at least 0.
        lower: least value of each parameter; minus infinity where there is none.
        start: where to begin, within the bounds.
    """
    found = np.maximum(start, lower)
    loss = _loss(features, target, offset, penalty, found)
    for _ in range(_MOST_STEPS):
        probability = expit(offset + features @ found)
        gradient = features.T @ (probability - target) / len(target) + penalty * found
        free = (found > lower) | (gradient < 0)
        if np.abs(gradient[free]).max(initial=0.0) < _PRECISION:
            break
        spread = probability * (1.0 - probability) / len(target)
        curvature = (features[:, free].T * spread) @ features[:, free] + np.diag(penalty[free] + _FLOOR)
        step = np.zeros_like(found)
        step[free] = np.linalg.solve(curvature, gradient[free])
        for halving in range(_HALVINGS):
            tried = np.maximum(found - step * 0.5**halving, lower)
            lower_loss = _loss(features, target, offset, penalty, tried)
            if lower_loss < loss:
                break
        else:
            break
        found, loss = tried, lower_loss
    return found


def _loss(features: Floats, target: Floats, offset: Floats | float, penalty: Floats, found: Floats) -> float:
    margin = offset + features @ found
    return float((np.logaddexp(0.0, margin) - target * margin).mean() + 0.5 * float(penalty @ found**2))
