"""Did the service change, or the judge that watches it? A stronger judge's word on what was flagged.

A rise is one of the share of answers that the local cascade flags. Of those a random sample from before the change and
one from after it go to a stronger judge. Share flagged times share agreed with is the share of all answers that both
judges call hallucinated: when the service has changed, that rose, too; when the local judge began to flag good answers,
it did not. Answers that were not flagged need not be asked about: they did not make the alarm.

That a run of hallucinations is chance is not what this tests (both judges see such a run): the evidence does.
"""

import math
from dataclasses import dataclass

from scipy.special import ndtr

from monitor.domain.confirmation import Confirmation, ConfirmationState
from monitor.domain.rate import Z_95, Rate
from monitor.drift.corrected import Share

ERROR = 0.05
"""How often a rise of the local judge alone is called confirmed, at most."""

FEWEST = 10
"""Answers that the stronger judge is heard about, of each sample that has as many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """One side of a change.

    Attributes:
        flagged: answers that the local cascade called hallucinated, of all.
        agreed: those of the sample that the stronger judge calls hallucinated, of those that it could judge.
        sampled: flagged answers that it was asked about.
    """

    flagged: Share
    agreed: Share
    sampled: int


def confirm(before: Agreement, after: Agreement) -> Confirmation:
    """What a stronger judge's word says of a rise.

    To be asked once: asked again and again while the samples are judged, chance would confirm sooner or later.
    """
    asked, heard = before.sampled + after.sampled, round(before.agreed.n + after.agreed.n)
    if any(side.agreed.n < min(FEWEST, side.sampled) for side in (before, after)) or not after.agreed.n:
        return Confirmation(state=ConfirmationState.INCONCLUSIVE, asked=asked, heard=heard)
    (earlier, earlier_error), (later, later_error) = _both(before), _both(after)
    chance = float(ndtr(-(later - earlier) / math.hypot(earlier_error, later_error)))
    return Confirmation(
        state=ConfirmationState.CONFIRMED if chance <= ERROR else ConfirmationState.NOT_CONFIRMED,
        before=_rate(before, earlier_error),
        after=_rate(after, later_error),
        asked=asked,
        heard=heard,
    )


def _both(side: Agreement) -> tuple[float, float]:
    """The share of answers that both judges call hallucinated, and its standard error."""
    (flagged, flagged_error), (agreed, agreed_error) = _estimate(side.flagged), _estimate(side.agreed)
    return flagged * agreed, math.hypot(flagged_error * agreed, agreed_error * flagged)


def _estimate(share: Share) -> tuple[float, float]:
    # One pseudo-observation of each kind, so that small samples hold their error (Agresti and Caffo 2000).
    rate = (share.hits + 1) / (share.n + 2)
    return rate, math.sqrt(rate * (1 - rate) / (share.n + 2))


def _rate(side: Agreement, error: float) -> Rate | None:
    if not side.flagged.n or (side.flagged.hits and not side.agreed.n):
        return None
    agreed = side.agreed.hits / side.agreed.n if side.agreed.n else 0.0
    value = side.flagged.hits / side.flagged.n * agreed
    low, high = max(0.0, value - Z_95 * error), min(1.0, value + Z_95 * error)
    return Rate(value=value, low=low, high=high, n=round(side.flagged.n))
