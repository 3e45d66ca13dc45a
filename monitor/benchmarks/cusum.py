"""The best that can be done about a known change: Page's CUSUM for a Bernoulli rate, both rates known.

Moustakides (1986): among all rules with a given run length to a false alarm it has the least worst mean delay. Nobody
in production knows both rates; it is what others are measured against.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, identity
from scipy.sparse.linalg import spsolve

_STEPS = 8
"""Steps of the score's lattice that a faithful verdict takes down; the score is then a whole number."""


class OracleCusum:
    """`S <- max(0, S + score)`, alarm at `S >= threshold`; scores are log-likelihood ratios on a lattice.

    Args:
        before, after: the two rates, 0 < before < after < 1.
        average_run_length: to a false alarm, at least; met exactly up to one step of the lattice.
    """

    def __init__(self, before: float, after: float, average_run_length: float) -> None:
        if not 0 < before < after < 1:
            raise ValueError(f"{before} and {after} are no rates before and after a rise")
        step = math.log((1 - before) / (1 - after)) / _STEPS
        self._up = max(1, round(math.log(after / before) / step))
        low, high = self._up, 2 * self._up
        while self._run_length(high, before) < average_run_length:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._run_length(middle, before) >= average_run_length else (middle, high)
        self.threshold = high
        self.average_run_length = self._run_length(high, before)

    def _run_length(self, threshold: int, rate: float) -> float:
        """Exactly, by the Markov chain over the scores below the threshold (Brook and Evans 1972)."""
        states = np.arange(threshold)
        down = np.maximum(0, states - _STEPS)
        up = states + self._up
        stays = up < threshold
        moves = csc_matrix(
            (
                np.concatenate([np.full(threshold, 1 - rate), np.full(int(stays.sum()), rate)]),
                (np.concatenate([states, states[stays]]), np.concatenate([down, up[stays]])),
            ),
            shape=(threshold, threshold),
        )
        return float(spsolve(identity(threshold, format="csc") - moves, np.ones(threshold))[0])

    def first_alarm(self, labels: NDArray[np.bool_]) -> int | None:
        """Index of the verdict that raises the alarm."""
        score = 0
        for place, label in enumerate(labels.tolist()):
            score = score + self._up if label else max(0, score - _STEPS)
            if score >= self.threshold:
                return place
        return None
