"""What asking one judge more would change, before it is asked: the errors that would remain.

For each label the log-odds after asking follow those before: `after = intercept + slope * before + rest`, with the
rest as spread as it was on labelled rows. Costs and threshold are no part of it, so that they can change without
a new fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from monitor.judging.odds import Floats, log_odds, logit

_TAIL = (0.0, 0.005, 0.01, 0.02)
_LEVELS = np.array([*_TAIL, *(step / 20 for step in range(1, 20)), *(1.0 - level for level in reversed(_TAIL))])
"""Of the quantiles that are kept: close at the ends, for a sure verdict is only ever wrong there."""
_RIDGE = 1.0
_DECIMALS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Prospect:
    """What would remain wrong: probabilities of *hallucinated and called faithful*, and of the opposite."""

    miss: float
    false_alarm: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Log-odds after asking, for one label: a straight line, and what is left, as quantiles from least to greatest."""

    intercept: float
    slope: float
    rest: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.rest) != len(_LEVELS):
            raise ValueError(f"{len(self.rest)} quantiles; {len(_LEVELS)} are known")

    def below(self, odds: Floats, bound: float) -> Floats:
        """Probability that the log-odds end below the bound, for each of the log-odds before."""
        return np.asarray(np.interp(bound - self.intercept - self.slope * odds, self.rest, _LEVELS))


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """From what some judges said to what they and one more would say.

    Attributes:
        given: versions of the judges that spoke.
        asked: version of the judge that may be asked.
        hallucinated, faithful: how log-odds move on rows of either label.
        rows: rows of the fit.
    """

    given: tuple[str, ...]
    asked: str
    hallucinated: Line
    faithful: Line
    rows: int

    def prospect(self, probability: float, threshold: float) -> Prospect:
        """What would remain wrong for a trace of this probability; see `prospects`."""
        misses, false_alarms = self.prospects([probability], threshold)
        return Prospect(miss=float(misses[0]), false_alarm=float(false_alarms[0]))

    def prospects(self, probabilities: ArrayLike, threshold: float) -> tuple[Floats, Floats]:
        """Probabilities of a miss and of a false alarm after asking, one of each a row.

        Args:
            probabilities: of *hallucinated*, as the judges so far leave them.
            threshold: an answer is called hallucinated from this probability on.
        """
        values, bound = np.asarray(probabilities, dtype=np.float64), logit(threshold)
        odds = log_odds(values)
        misses = values * self.hallucinated.below(odds, bound)
        return np.asarray(misses), np.asarray((1.0 - values) * (1.0 - self.faithful.below(odds, bound)))


def fit_transition(
    given: Sequence[str], asked: str, before: ArrayLike, after: ArrayLike, labels: Sequence[bool] | ArrayLike
) -> Transition:
    """Fit on rows where all of them spoke.

    Args:
        given: versions of the judges that spoke.
        asked: version of the judge that may be asked.
        before: log-odds of *hallucinated* without that judge, one a row.
        after: and with it.
        labels: True for hallucinated; both labels must occur.
    """
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    positive = np.asarray(labels, dtype=bool)
    return Transition(
        given=tuple(sorted(given)),
        asked=asked,
        hallucinated=_line(old[positive], new[positive]),
        faithful=_line(old[~positive], new[~positive]),
        rows=len(positive),
    )


def _line(before: Floats, after: Floats) -> Line:
    centred = before - before.mean()
    # Drawn towards 1, where a judge adds to the log-odds whatever they are: also where `before` hardly varies.
    slope = (float(centred @ (after - after.mean())) + _RIDGE) / (float(centred @ centred) + _RIDGE)
    intercept = float(after.mean() - slope * before.mean())
    rest = np.quantile(after - intercept - slope * before, _LEVELS)
    return Line(
        intercept=round(intercept, _DECIMALS) + 0.0,
        slope=round(slope, _DECIMALS),
        rest=tuple(round(float(value), _DECIMALS) + 0.0 for value in rest),
    )
