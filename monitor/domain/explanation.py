"""Why a rate rose, as far as the traffic's own marks say, with answers to look at."""

from dataclasses import dataclass
from datetime import datetime

from monitor.domain.rate import Rate
from monitor.domain.trace import hold_utc


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """A slice of the traffic, one value of one dimension, whose rate rose by more than that of the rest.

    Attributes:
        before: None for a slice that did not exist before the change.
        effect, low, high: how much the slice's rise exceeds the rest's, with its 95 % interval.
        p_value: that the excess is chance, corrected for all slices looked at.
        explains: share of the hallucinated answers in excess of the rate before that this slice has; above 1 where
            the rest fell meanwhile.
    """

    dimension: str
    value: str
    before: Rate | None
    after: Rate
    effect: float
    low: float
    high: float
    p_value: float
    explains: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A trace since the change that was called hallucinated; `probability` is the local cascade's."""

    trace_id: str
    event_time: datetime
    probability: float

    def __post_init__(self) -> None:
        hold_utc(self, "event_time")


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """What is known of an alert: from when it was raised, or from a later look while nothing had been found.

    Attributes:
        looks: the slices are looked at again once verdicts since the change have doubled so often.
        causes: the one that explains most first; empty where everything rose alike or too little is known.
        examples: the clearest first, at most ten, of the first cause where there is one.
    """

    causes: tuple[Cause, ...] = ()
    examples: tuple[Example, ...] = ()
    looks: int = 0
