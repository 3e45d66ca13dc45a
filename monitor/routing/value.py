"""What one more judgement is worth: the loss that it is expected to avoid (value of information; Howard 1966)."""

from dataclasses import dataclass
from typing import Protocol


class Prospect(Protocol):
    """What would remain wrong after asking: probabilities of *hallucinated and called faithful*, and the opposite."""

    @property
    def miss(self) -> float: ...  # noqa: D102 - as the class says

    @property
    def false_alarm(self) -> float: ...  # noqa: D102 - likewise


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What errors cost, in one currency of the reader's choice; calls are priced in the same one.

    Attributes:
        miss: of a hallucinated answer that is called faithful.
        false_alarm: of a faithful one that is called hallucinated.
    """

    miss: float = 1.0
    false_alarm: float = 1.0

    @property
    def threshold(self) -> float:
        """The probability from which on calling an answer hallucinated is the cheaper error to risk."""
        return self.false_alarm / (self.miss + self.false_alarm)

    def now(self, probability: float, threshold: float) -> float:
        """Expected loss of the verdict as it stands."""
        wrong = (1.0 - probability) * self.false_alarm, probability * self.miss
        return wrong[0] if probability >= threshold else wrong[1]

    def after(self, prospect: Prospect) -> float:
        """Expected loss of the verdict after asking, the call itself not counted."""
        return prospect.miss * self.miss + prospect.false_alarm * self.false_alarm

    def value(self, probability: float, threshold: float, prospect: Prospect) -> float:
        """Expected loss that asking avoids; at least 0, since an answer can be left unused."""
        return max(0.0, self.now(probability, threshold) - self.after(prospect))

    @property
    def most(self) -> float:
        """No judgement on one trace can be worth more, where the threshold is `threshold`."""
        return self.miss * self.threshold


EVEN = Costs()
"""Either error costs 1: losses are then shares of wrong verdicts."""
