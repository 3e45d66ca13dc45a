"""A rate estimated from counted verdicts, with its uncertainty."""

import math
from dataclasses import dataclass

_LEAST, _MOST = 1e-6, 1 - 1e-6


@dataclass(slots=True)
class Reference:
    """Verdicts counted, and the sum of them: of labels, or of probabilities."""

    total: int = 0
    hallucinated: float = 0.0

    def add(self, total: int, hallucinated: float) -> None:
        """Count more."""
        self.total += total
        self.hallucinated += hallucinated

    @property
    def rate(self) -> float:
        """The estimate, under Jeffreys' prior Beta(1/2, 1/2): above 0 even where nothing was hallucinated."""
        return (self.hallucinated + 0.5) / (self.total + 1)

    @property
    def standard_error(self) -> float:
        """Of the estimate; for probabilities, which vary less than labels of the same mean, an upper bound."""
        rate = self.rate
        return math.sqrt(rate * (1 - rate) / (self.total + 1))

    def shifted(self, standard_errors: float) -> float:
        """The estimate, so many standard errors higher (lower, if negative); strictly between 0 and 1."""
        return min(_MOST, max(_LEAST, self.rate + standard_errors * self.standard_error))

    def state(self) -> list[float]:
        """Everything, as a JSON value."""
        return [self.total, self.hallucinated]
