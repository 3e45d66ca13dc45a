"""A share with its uncertainty, or why there is none: no rate is reported without one or the other."""

import math
from dataclasses import dataclass

Z_95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution: two-sided 95 % intervals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """A share with its 95 % interval, all between 0 and 1; `n` is what it was taken over."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NoRate:
    """Why a rate is not reported, in words for the person who asked for it."""

    reason: str


def wilson(successes: float, n: float) -> Rate | None:
    """The Wilson score interval at 95 % (Wilson 1927); None when there is nothing to take a share of.

    It holds its coverage at small `n` and near 0, where hallucination rates live and where the usual
    `p ± 1.96 s` interval falls below 0. Both arguments may be effective numbers, which need not be whole.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share")
    if n == 0:
        return None
    share = successes / n
    spread = Z_95**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return Rate(value=share, low=max(0.0, centre - half), high=min(1.0, centre + half), n=round(n))
