"""What a stronger judge says about an alert: did the service change, or the judge that watches it?"""

from dataclasses import dataclass
from enum import StrEnum

from monitor.domain.rate import Rate


class ConfirmationState(StrEnum):
    """Where the asking stands, and how it ended."""

    PENDING = "pending"
    """The stronger judge has not read its samples yet."""
    CONFIRMED = "confirmed"
    """What both judges call hallucinated became more, too."""
    NOT_CONFIRMED = "not_confirmed"
    """It cannot be seen to have become more: the edge judge drifted."""
    INCONCLUSIVE = "inconclusive"
    """The stronger judge was heard about too few answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmation:
    """A stronger judge's word on random samples of flagged answers, from before a change and from after it.

    Attributes:
        before, after: share of all answers that both judges call hallucinated.
        asked: answers in both samples.
        heard: those that the stronger judge could judge.
    """

    state: ConfirmationState = ConfirmationState.PENDING
    before: Rate | None = None
    after: Rate | None = None
    asked: int = 0
    heard: int = 0
