"""What one segment's probabilities are moved by: learned from its own rows as far as those are many.

A segment's log-odds are `intercept + slope * g`, with `g` those of the fit over all segments. Its two numbers are
drawn towards 0 and 1 by a Gaussian prior (partial pooling; Gelman and Hill 2007), so that a segment with few rows
stays where all the others are. How strong the pull is, and whether segments are told apart at all, cross-validation
decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from monitor.judging.crossval import clearly_lower, folds
from monitor.judging.logistic import fit_bounded
from monitor.judging.odds import Floats, log_losses

LEAST_ROWS = 30
"""A segment with fewer rows has no shift of its own."""
_STRENGTHS = (3.0, 10.0, 30.0)
"""Prior precisions that are tried: a deviation of 1 in log-odds costs as much as half so many nats."""
_DECIMALS = 6
_BOUNDS = np.array([-np.inf, -1.0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Shift:
    """One segment's deviation from all; `slope` is at least 0, so that no segment turns a judge round."""

    intercept: float
    slope: float
    rows: int

    def moved(self, odds: float) -> float:
        """The segment's log-odds for those of all segments."""
        return self.intercept + self.slope * odds


def fit_segments(odds: Floats, labels: Sequence[bool], segments: Sequence[str]) -> dict[str, Shift]:
    """Shifts of the segments that have rows enough; none where they do not clearly help on held-out rows.

    Args:
        odds: log-odds of *hallucinated* as fitted on all segments, one a row.
        labels: True for hallucinated.
        segments: each row's segment.
    """
    target, names = np.asarray(labels, dtype=np.float64), np.asarray(segments, dtype=object)
    known = [name for name in dict.fromkeys(segments) if int((names == name).sum()) >= LEAST_ROWS]
    if len(set(segments)) < 2 or not known:  # noqa: PLR2004 - one segment is all there is: nothing deviates
        return {}
    held_out = folds(target == 1)
    best: tuple[float, Floats] | None = None
    for strength in _STRENGTHS:
        moved = odds.copy()
        for held in held_out:
            shifts = _fit_all(odds[~held], target[~held], names[~held], known, strength)
            moved[held] = _moved(odds[held], names[held], shifts)
        losses = log_losses(expit(moved), target)
        if best is None or losses.mean() < best[1].mean():
            best = (strength, losses)
    assert best is not None
    if not clearly_lower(best[1], log_losses(expit(odds), target)):
        return {}
    return _fit_all(odds, target, names, known, best[0])


def _fit_all(odds: Floats, target: Floats, names: Floats, known: Sequence[str], strength: float) -> dict[str, Shift]:
    return {name: _fit(odds[names == name], target[names == name], strength) for name in known if (names == name).any()}


def _fit(odds: Floats, target: Floats, strength: float) -> Shift:
    found = fit_bounded(
        np.column_stack([np.ones(len(target)), odds]),
        target,
        offset=odds,
        penalty=np.full(2, strength / len(target)),
        lower=_BOUNDS,
        start=np.zeros(2),
    )
    return Shift(
        intercept=round(float(found[0]), _DECIMALS) + 0.0,
        slope=round(1.0 + float(found[1]), _DECIMALS),
        rows=len(target),
    )


def _moved(odds: Floats, names: Floats, shifts: Mapping[str, Shift]) -> Floats:
    pairs = zip(odds, names, strict=True)
    return np.array([shifts[name].moved(float(odd)) if name in shifts else float(odd) for odd, name in pairs])
