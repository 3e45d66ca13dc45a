"""Probabilities and log-odds."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

Floats = NDArray[np.float64]

CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1 before their logarithm is taken."""


def log_odds(probabilities: ArrayLike) -> Floats:
    """Log-odds of each probability, kept `CLIP` away from 0 and 1."""
    kept = np.clip(np.asarray(probabilities, dtype=np.float64), CLIP, 1.0 - CLIP)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def logit(probability: float) -> float:
    """Log-odds of one probability; see `log_odds`."""
    return float(log_odds(probability))


def sigmoid(odds: float) -> float:
    """Probability of log-odds; no overflow."""
    return float(expit(odds))


def log_losses(probabilities: ArrayLike, target: Floats) -> Floats:
    """Log loss of each row, in nats.

    Args:
        probabilities: of *hallucinated*.
        target: 1 for hallucinated, else 0.
    """
    kept = np.clip(np.asarray(probabilities, dtype=np.float64), CLIP, 1.0 - CLIP)
    return np.asarray(-(target * np.log(kept) + (1.0 - target) * np.log1p(-kept)))
