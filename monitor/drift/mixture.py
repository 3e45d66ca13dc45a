"""A mixture of Shiryaev-Roberts statistics: evidence that a rate has left the one that it is tested against.

For a tested rate p0 and an alternative p1 a verdict x in [0, 1] has the factor

    L(x) = x p1/p0 + (1 - x)(1 - p1)/(1 - p0)

the likelihood ratio where x is a label (0 or 1), and a bet of fair or unfavourable odds where it is a probability: L is
linear in x, so its mean is at most 1 whenever the mean of x is on the tested side of p0 (at most p0 for a rise, at
least p0 for a fall), whatever else is true of x (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random
variables by betting"). A component follows `R <- (R + 1) L(x)`.

n verdicts with the sum s are folded at once by `R <- (R + n) (p1/p0)^s ((1-p1)/(1-p0))^(n-s)`. For labels the last two
are the product of the n factors, in any order; for probabilities they are less than that product, being a weighted
geometric mean in the place of the arithmetic one (`d^x c^(1-x) <= x d + (1 - x) c`): a smaller bet, still fair.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.domain.alert import Direction

Floats = NDArray[np.float64]

_LARGEST_LOG = 600.0  # e^600 is far above any threshold, and far below where a float overflows.


class Side(NamedTuple):
    """Alternatives on one side of a rate that they are all tested against.

    Attributes:
        direction: whether they lie above or below it.
        weight: of this side in the whole mixture.
        multiples: the alternatives, as multiples (rise) or fractions of one (fall) of the tested rate; all above 1.
        shares: each one's share of the side's weight, in any unit.
    """

    direction: Direction
    weight: float
    multiples: tuple[float, ...]
    shares: tuple[float, ...]

    def alternatives(self, tested: float) -> Floats:
        """The alternatives' rates."""
        multiples = np.array(self.multiples)
        if self.direction is Direction.FALL:
            return tested / multiples
        # Near 1 a multiple of the tested rate is no rate: there, a quarter of the faithful answers is left.
        return np.minimum(tested * multiples, 1 - (1 - tested) / 4)


class Factors(NamedTuple):
    """Each component's factor for a hallucinated and for a faithful verdict, with their logarithms."""

    hallucinated: Floats
    faithful: Floats
    log_hallucinated: Floats
    log_faithful: Floats


def factors(sides: Sequence[Side], tested: Sequence[float]) -> Factors:
    """The factors of all sides' alternatives, each side against a tested rate of its own, strictly between 0 and 1."""
    pairs = [(each.alternatives(rate), rate) for each, rate in zip(sides, tested, strict=True)]
    hallucinated = np.concatenate([alternatives / rate for alternatives, rate in pairs])
    faithful = np.concatenate([(1 - alternatives) / (1 - rate) for alternatives, rate in pairs])
    return Factors(hallucinated, faithful, np.log(hallucinated), np.log(faithful))


class Mixture:
    """The components' values, which are all that is remembered of the verdicts folded."""

    __slots__ = ("_rising", "_values", "_weights")

    def __init__(self, sides: Sequence[Side], values: Sequence[float] | None = None) -> None:
        weights = [side.weight * share / sum(side.shares) for side in sides for share in side.shares]
        rising = [side.direction is Direction.RISE for side in sides for _ in side.shares]
        self._weights = np.array(weights) / sum(weights)
        self._rising = np.array(rising)
        self._values = np.zeros(len(weights)) if values is None else np.array(values, dtype=np.float64)
        if len(self._values) != len(self._weights):
            raise ValueError(f"{len(self._values)} values for {len(self._weights)} components")

    def fold_one(self, verdict: float, ratio: Factors) -> float:
        """Fold one verdict in [0, 1]; returns the new value."""
        values = self._values
        values += 1.0
        if verdict == 0:
            values *= ratio.faithful
        elif verdict == 1:
            values *= ratio.hallucinated
        else:
            values *= ratio.faithful + verdict * (ratio.hallucinated - ratio.faithful)
        return float(self._weights @ values)

    def fold_many(self, total: int, hallucinated: float, ratio: Factors) -> float:
        """Fold `total` verdicts at once, whose sum is `hallucinated`; returns the new value."""
        # Far past every threshold a value is cut, so that no batch is too large for a float.
        logs = (
            np.log(self._values + total)
            + hallucinated * ratio.log_hallucinated
            + (total - hallucinated) * ratio.log_faithful
        )
        self._values = np.exp(np.minimum(logs, _LARGEST_LOG))
        return self.value

    @property
    def value(self) -> float:
        """The components' weighted mean."""
        return float(self._weights @ self._values)

    @property
    def evidence(self) -> float | None:
        """Natural logarithm of the value; None before anything was folded."""
        value = self.value
        return math.log(value) if value > 0 else None

    @property
    def direction(self) -> Direction:
        """Which way most of the value points."""
        rising = float(self._weights[self._rising] @ self._values[self._rising])
        return Direction.RISE if rising >= self.value / 2 else Direction.FALL

    def values(self) -> list[float]:
        """The components' values, to go on from."""
        return [float(each) for each in self._values]
