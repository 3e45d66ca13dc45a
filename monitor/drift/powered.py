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

Where traces were sampled before they were judged, each stands for w = 1 / (its sampling probability) of them: means are
Hajek's, `sum w x / sum w`, their variance is the linearised `sum w^2 (x - mean)^2 / (sum w)^2`, and a window is worth
Kish's effective number of traces, `(sum w)^2 / sum w^2`. One probability for all of them changes nothing.
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
        sampling: probability with which it was kept at all.
    """

    predicted: float
    trusted: bool | None = None
    inclusion: float = 1.0
    sampling: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """All that the rate of a window is made from: sums over traces, so that windows and segments add up.

    Attributes:
        n: traces.
        audits: those with a trusted label, however they came to it.
        weights, squares: sums of w and of w^2.
        a, b, c: sums of w times the terms; see the module.
        qa, qb, qc, aa, ab, ac, bb, bc, cc: sums of w^2 times the terms, and times their products.
    """

    n: int = 0
    audits: int = 0
    weights: float = 0.0
    squares: float = 0.0
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0
    qa: float = 0.0
    qb: float = 0.0
    qc: float = 0.0
    aa: float = 0.0
    ab: float = 0.0
    ac: float = 0.0
    bb: float = 0.0
    bc: float = 0.0
    cc: float = 0.0

    def __add__(self, other: Self) -> "Sums":
        return Sums(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    @property
    def effective(self) -> float:
        """Traces of equal weight that would tell as much."""
        return self.weights**2 / self.squares


def sums(traces: Iterable[Seen]) -> Sums:
    """The sums over these traces.

    Raises:
        ValueError: an inclusion or sampling probability is not in (0, 1], or a prediction not in [0, 1].
    """
    audits = 0
    rows: list[tuple[float, float, float, float, float]] = []
    for trace in traces:
        if not 0 <= trace.predicted <= 1 or not 0 < trace.inclusion <= 1 or not 0 < trace.sampling <= 1:
            raise ValueError(f"{trace} is no trace with a probability and a chance of being chosen")
        x = 0.0 if trace.trusted is None else 1 / trace.inclusion
        audits += trace.trusted is not None
        # With a first term of 1, sums of w and of w^2 times each term are among the products.
        rows.append((1.0, x * bool(trace.trusted), trace.predicted * (1 - x), 1 - x, 1 / trace.sampling))
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 5)
    terms, w = table[:, :4], table[:, 4]
    (weights, a, b, c), products = w @ terms, (terms.T * w**2) @ terms
    squares, qa, qb, qc = products[0].tolist()
    products = products[1:, 1:]
    return Sums(
        n=len(rows), audits=audits, weights=float(weights), squares=squares,
        a=float(a), b=float(b), c=float(c), qa=qa, qb=qb, qc=qc,
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
    n = window.effective
    mean = np.array([window.a, window.b, window.c]) / window.weights
    mixed = np.outer(mean, [window.qa, window.qb, window.qc])
    second = np.array(
        [
            [window.aa, window.ab, window.ac],
            [window.ab, window.bb, window.bc],
            [window.ac, window.bc, window.cc],
        ]
    )
    covariance = ((second - mixed - mixed.T) / window.squares + np.outer(mean, mean)) * n / (n - 1)
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
    # Kish's effective number of trusted labels: sums of w x / pi and of its square, out of those of c = 1 - x / pi.
    labelled = (window.weights - window.c) ** 2 / (window.cc + window.squares - 2 * window.qc)
    centre = min(1.0, max(0.0, value))
    # Never fewer than the labels alone would be worth, never more than the traces are.
    worth = centre * (1 - centre) / variance if variance > 0 else labelled
    worth = min(window.effective, max(labelled, worth))
    rate = wilson(centre * worth, worth)
    assert rate is not None
    return Rate(value=centre, low=rate.low, high=rate.high, n=window.n)
