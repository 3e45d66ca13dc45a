"""Prediction-powered rates: a cheap judge's word on every trace, a trusted one on a random few.

Angelopoulos, Duchi, Zrnic: "PPI++: Efficient Prediction-Powered Inference" (2023), with the inclusion probabilities of
Horvitz and Thompson (1952). The ledger has the same in SQL (`rate_powered`); a test holds the two together.

For trace i let f be the cheap judge's word (a label or a calibrated probability), x = 1 where a trusted label y exists,
and pi > 0 the probability with which it was chosen to have one. Then

    a = x y / pi        b = f (1 - x / pi)        c = 1 - x / pi

and for every l and m the mean of `a + l b + m c` has the true rate as its expectation, because b and c have
expectation 0: whatever the cheap judge is worth, and whatever decided pi, as long as nothing else decided x. l and m
are chosen to make the variance least (l is PPI++'s tuning parameter; m takes out the chance in *how many* were drawn,
as Hajek's ratio does), so that the interval is never much wider than that of the trusted labels alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from monitor.domain.rate import NoRate, Rate, wilson

FEWEST_AUDITS = 30
"""Trusted labels below which no interval from large-sample theory is given."""

_SAME = 1e-9
"""1 - r^2 from which on two terms are one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One trace: the cheap judge's word in [0, 1], and the trusted one where there is one.

    Attributes:
        inclusion: probability with which it was chosen for a trusted label; counts only where there is one.
    """

    predicted: float
    trusted: bool | None = None
    inclusion: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """All that the rate of a window is made from: sums over traces, so that windows and segments add up.

    Attributes:
        n: traces.
        audits: those with a trusted label, however they came to it.
        a, b, c, aa, ab, ac, bb, bc, cc: sums of the terms and of their products; see the module.
    """

    n: int = 0
    audits: int = 0
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0
    aa: float = 0.0
    ab: float = 0.0
    ac: float = 0.0
    bb: float = 0.0
    bc: float = 0.0
    cc: float = 0.0

    def __add__(self, other: Self) -> "Sums":
        return Sums(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})


def sums(traces: Iterable[Seen]) -> Sums:
    """The sums over these traces.

    Raises:
        ValueError: an inclusion probability is not in (0, 1], or a prediction not in [0, 1].
    """
    n = audits = 0
    rows: list[tuple[float, float, float]] = []
    for trace in traces:
        if not 0 <= trace.predicted <= 1 or not 0 < trace.inclusion <= 1:
            raise ValueError(f"{trace} is no trace with a probability and a chance of being chosen")
        n += 1
        weight = 0.0 if trace.trusted is None else 1 / trace.inclusion
        audits += trace.trusted is not None
        rows.append((weight * bool(trace.trusted), trace.predicted * (1 - weight), 1 - weight))
    terms = np.array(rows, dtype=np.float64).reshape(n, 3)
    (a, b, c), products = terms.sum(axis=0), terms.T @ terms
    return Sums(
        n=n, audits=audits, a=float(a), b=float(b), c=float(c),
        aa=float(products[0, 0]), ab=float(products[0, 1]), ac=float(products[0, 2]),
        bb=float(products[1, 1]), bc=float(products[1, 2]), cc=float(products[2, 2]),
    )  # fmt: skip


def powered_rate(window: Sums) -> Rate | NoRate:
    """The prediction-powered rate of a window with its 95 % interval.

    The interval is Wilson's with the number of traces that, all labelled, would have had this variance: near 0 it
    keeps its coverage where `value ± 1.96 s` does not.

    Returns:
        The rate, or why there is none: too few trusted labels.
    """
    if window.audits < FEWEST_AUDITS:
        return NoRate(reason=f"{window.audits} answers of the window have a trusted label; {FEWEST_AUDITS} are needed")
    n = window.n
    mean = np.array([window.a, window.b, window.c]) / n
    second = np.array(
        [
            [window.aa, window.ab, window.ac],
            [window.ab, window.bb, window.bc],
            [window.ac, window.bc, window.cc],
        ]
    )
    covariance = (second / n - np.outer(mean, mean)) * n / (n - 1)
    weights = np.array([1.0, *_tuned(covariance)])
    value = float(weights @ mean)
    variance = float(weights @ covariance @ weights) / n
    return _interval(value, variance, window)


def _tuned(covariance: NDArray[np.float64]) -> tuple[float, float]:
    """Weights of least variance: `a` regressed on the two terms without expectation.

    Where those two say the same (a cheap judge that has one answer only), the shortest of the equally good weights.
    """
    (_, ab, ac), (_, bb, bc), (_, _, cc) = covariance.tolist()
    determinant = bb * cc - bc * bc
    if determinant > _SAME * bb * cc:
        return (ac * bc - ab * cc) / determinant, (ab * bc - ac * bb) / determinant
    squared = (bb + cc) ** 2
    return (-(bb * ab + bc * ac) / squared, -(bc * ab + cc * ac) / squared) if squared > 0 else (0.0, 0.0)


def _interval(value: float, variance: float, window: Sums) -> Rate:
    weights, squares = window.n - window.c, window.cc - window.n + 2 * (window.n - window.c)
    labelled = weights**2 / squares  # Kish's effective number of trusted labels
    centre = min(1.0, max(0.0, value))
    # Never fewer than the labels alone would be worth, never more than there are traces.
    worth = centre * (1 - centre) / variance if variance > 0 else labelled
    worth = min(float(window.n), max(labelled, worth))
    rate = wilson(centre * worth, worth)
    assert rate is not None
    return Rate(value=centre, low=rate.low, high=rate.high, n=window.n)
