"""When a slow call is worth a second one: past the 95th percentile, and seldom (Dean, Barroso, "The Tail at Scale").

Long prompts are slow by nature and are hedged more often than short ones. The cap on the share of second calls
bounds what that costs.
"""

from collections import deque

_WINDOW = 200
_ENOUGH = 20
_PERCENTILE = 0.95
_BURST = 3.0


class Hedging:
    """Says how long to wait for a first answer, and grants second calls up to a share. Not thread-safe.

    Args:
        share: second calls among all, at most; they are saved up to a handful at a time.
    """

    def __init__(self, *, share: float) -> None:
        self._share = share
        self._seconds: deque[float] = deque(maxlen=_WINDOW)
        self._granted = 0.0

    def called(self) -> float | None:
        """A first call begins; after how many seconds it is slow, or None while too few answers were timed."""
        self._granted = min(_BURST, self._granted + self._share)
        if len(self._seconds) < _ENOUGH:
            return None
        return sorted(self._seconds)[int(_PERCENTILE * (len(self._seconds) - 1))]

    @property
    def may_grant(self) -> bool:
        """Whether a second call may be made now."""
        # Twenty times 0.05 is a whole call: what is missing is the sum's noise.
        return self._granted >= 1.0 - 1e-9

    def grant(self) -> None:
        """A second call is made."""
        self._granted -= 1.0

    def answered(self, seconds: float) -> None:
        """A call was answered after so long, or was given up for the other's answer and took at least so long."""
        self._seconds.append(seconds)
