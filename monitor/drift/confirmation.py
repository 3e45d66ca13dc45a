"""Did the service change, or the judge that watches it? A stronger judge's word on answers from before and after."""

import math
from enum import StrEnum

from scipy.special import ndtr

from monitor.drift.corrected import Share

ERROR = 0.05
"""How often a rise is called confirmed that is none, at most."""


class Confirmation(StrEnum):
    """What the stronger judge says about an alert."""

    PENDING = "pending"
    """Its sample is not judged yet."""
    CONFIRMED = "confirmed"
    """The rate rose by the stronger judge's word too."""
    NOT_CONFIRMED = "not_confirmed"
    """By the stronger judge's word it cannot be seen to have risen: the edge judge drifted."""


def confirmation(before: Share, after: Share) -> Confirmation:
    """What a stronger judge's word on two random samples says of a rise.

    To be asked once, when both samples are judged: asked again and again meanwhile, chance would confirm sooner or
    later.

    Args:
        before: hallucinated answers by the stronger judge's word among those sampled from before the change.
        after: the same from after it.
    """
    if not before.n or not after.n:
        return Confirmation.PENDING
    (rate, spread), (earlier, earlier_spread) = _estimate(after), _estimate(before)
    rise = (rate - earlier) / math.hypot(spread, earlier_spread)
    return Confirmation.CONFIRMED if ndtr(-rise) <= ERROR else Confirmation.NOT_CONFIRMED


def _estimate(share: Share) -> tuple[float, float]:
    # One pseudo-observation of each kind, so that small samples hold their error (Agresti and Caffo 2000).
    rate = (share.hits + 1) / (share.n + 2)
    return rate, math.sqrt(rate * (1 - rate) / (share.n + 2))
