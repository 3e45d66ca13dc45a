"""Whether the hours of the day share one rate: the assumption of a baseline without seasons, watched."""

from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import chdtrc

SURELY = 1e-6
"""A p-value below which the hours are said to differ: it is looked at again and again."""


class Rhythm(NamedTuple):
    """Whether the hours of the day differ in their rate.

    Attributes:
        p_value: of the chi-squared test that all have the same.
        lowest, highest: the least and the greatest rate of an hour with enough verdicts.
    """

    p_value: float
    lowest: float
    highest: float


FEWEST_EXPECTED = 5.0
"""Verdicts of the rarer kind that an hour must be expected to have, or it says nothing (Cochran 1954)."""


def rhythm(hours: Sequence[tuple[int, float]]) -> Rhythm | None:
    """Test whether hours (verdicts, hallucinated among them) share one rate; None while fewer than two say anything.

    A small p-value without drift means a rhythm: set `drift.seasons`.
    """
    total, hallucinated = sum(n for n, _ in hours), sum(mass for _, mass in hours)
    if not 0 < hallucinated < total:
        return None
    rate = hallucinated / total
    telling = [(n, mass) for n, mass in hours if n * min(rate, 1 - rate) >= FEWEST_EXPECTED]
    if len(telling) < 2:  # noqa: PLR2004 - one hour differs from nothing
        return None
    n, mass = sum(n for n, _ in telling), sum(mass for _, mass in telling)
    shared = mass / n
    if not 0 < shared < 1:
        return None
    squares = sum((mass - n * shared) ** 2 / (n * shared * (1 - shared)) for n, mass in telling)
    rates = [mass / n for n, mass in telling]
    return Rhythm(p_value=float(chdtrc(len(telling) - 1, squares)), lowest=min(rates), highest=max(rates))
