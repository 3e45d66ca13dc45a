"""A judge's hallucination rate, corrected for the judge's own errors.

The share that a judge calls hallucinated is not the share that is: with sensitivity Se and specificity Sp a true rate
t is seen as `p = t Se + (1 - t)(1 - Sp)`. Rogan and Gladen (1978) turn this round, `t = (p + Sp - 1)/(Se + Sp - 1)`.
The interval is that of Lang and Reiczigel (Preventive Veterinary Medicine 113, 2014), which carries the uncertainty of
all three shares and holds its coverage near 0, where hallucination rates live; with one pseudo-observation (Jeffreys)
for each skill in place of their two, because theirs covers up to 97.3 % where 95 % are asked for (docs/rates.md).
"""

import math
from dataclasses import dataclass

from monitor.domain.rate import Z_95, NoRate, Rate

FEWEST_LABELS = 30
"""Faithful, and hallucinated, answers with a trusted label that a judge's skill is at least taken from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Hits among trials; effective numbers, where trials were drawn with unequal probabilities, need not be whole."""

    hits: float
    n: float

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.n:
            raise ValueError(f"{self.hits} of {self.n} is no share")


def corrected_rate(judged: Share, *, sensitivity: Share, specificity: Share) -> Rate | NoRate:
    """The rate of truly hallucinated answers behind what a judge said.

    Args:
        judged: answers that the judge called hallucinated, of those that it judged.
        sensitivity: of truly hallucinated answers with a label, those that the judge called hallucinated.
        specificity: of truly faithful answers with a label, those that the judge called faithful.

    Returns:
        The rate, clipped to [0, 1]; or why there is none: nothing judged, too few labels, or a judge that is no
        better than chance (Se + Sp <= 1), behind whose word nothing can be seen.
    """
    if judged.n == 0:
        return NoRate(reason="nothing was judged")
    for share, kind in ((sensitivity, "hallucinated"), (specificity, "faithful")):
        if share.n < FEWEST_LABELS:
            return NoRate(
                reason=f"{share.n:.0f} {kind} answers are labelled; the judge's skill needs at least {FEWEST_LABELS}"
            )
    plain = sensitivity.hits / sensitivity.n + specificity.hits / specificity.n - 1
    if plain <= 0:
        return NoRate(reason="the judge is no better than chance: its sensitivity and specificity add up to 1 or less")
    seen = judged.hits / judged.n
    value = (seen + specificity.hits / specificity.n - 1) / plain
    low, high = _lang_reiczigel(judged, sensitivity, specificity)
    return Rate(value=_clipped(value), low=_clipped(low), high=_clipped(high), n=round(judged.n))


def _lang_reiczigel(judged: Share, sensitivity: Share, specificity: Share) -> tuple[float, float]:
    # Pseudo-observations: z squared to the judged share (Agresti and Coull), one to each skill (Jeffreys).
    n = judged.n + Z_95**2
    seen = (judged.hits + Z_95**2 / 2) / n
    positives, negatives = sensitivity.n + 1, specificity.n + 1
    se, sp = (sensitivity.hits + 0.5) / positives, (specificity.hits + 0.5) / negatives
    youden = se + sp - 1
    if youden <= 0:
        return 0.0, 1.0
    rate = min(1.0, max(0.0, (seen + sp - 1) / youden))
    noise_se, noise_sp = se * (1 - se) / positives, sp * (1 - sp) / negatives
    shift = 2 * Z_95**2 * (rate * noise_se - (1 - rate) * noise_sp)
    error = math.sqrt(seen * (1 - seen) / n + (1 - rate) ** 2 * noise_sp + rate**2 * noise_se) / youden
    return rate + shift - Z_95 * error, rate + shift + Z_95 * error


def _clipped(value: float) -> float:
    return min(1.0, max(0.0, value))
