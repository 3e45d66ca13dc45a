"""How many calls a server bears, found out by trying: additive increase, multiplicative decrease (Chiu, Jain 1989)."""

import math

_BACKOFF = 0.5


class AdaptiveLimit:
    """Between 1 and `most` calls at a time. Starts at `most`; not thread-safe.

    A round trip's worth of good answers adds one, as TCP's congestion avoidance does; a server that is busy or too
    slow halves it, once a round trip: all calls that were under way then met the same crowd.

    Args:
        most: the limit's upper end.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._halved_at = -math.inf

    @property
    def permits(self) -> int:
        """How many calls may be under way."""
        return int(self._limit)

    def succeeded(self, *, in_flight: int) -> None:
        """A call came back well while so many were under way, itself included."""
        # A limit that is not reached was not tried: it must not grow on the word of a lone call.
        if 2 * in_flight >= self.permits:
            self._limit = min(float(self._most), self._limit + 1.0 / self._limit)

    def overloaded(self, *, began: float, now: float) -> None:
        """A call that began at `began` found the server busy, or too slow (a steady clock, in seconds)."""
        if began > self._halved_at:
            self._limit = max(1.0, self._limit * _BACKOFF)
            self._halved_at = now
