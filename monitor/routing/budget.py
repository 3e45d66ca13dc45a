"""How much wall time a judge may take: a token bucket whose tokens are seconds."""


class TimeBudget:
    """Lets a judge work a share of the time, over passed-in readings of a steady clock.

    The bucket fills by `share` seconds a second up to `burst_seconds` and starts full. Work is charged after
    it was done, since nobody knows before what a prompt costs; an overdraft is paid back before the next piece.
    Not thread-safe.
    """

    def __init__(self, *, share: float, burst_seconds: float = 15.0) -> None:
        self._share = share
        self._burst = burst_seconds
        self._balance = burst_seconds if share > 0 else 0.0
        self._read_at: float | None = None

    def allows(self, now: float) -> bool:
        """Whether a piece of work may begin at `now` (seconds, any origin, never going back)."""
        self._refill(now)
        return self._balance > 0

    def scarcity(self, now: float) -> float:
        """How far the time is used up at `now`: 0 with a full bucket, 1 when nothing may begin.

        As a price it finds its own level: the dearer the calls, the fewer are made, and the bucket fills again.
        """
        self._refill(now)
        if self._share <= 0:
            return 1.0
        return min(1.0, max(0.0, 1.0 - self._balance / self._burst))

    def spend(self, seconds: float, *, now: float) -> None:
        """Charge work that took `seconds` and ended at `now`."""
        self._refill(now - seconds)
        # Time earned while working counts in full: a share of 1 never falls behind, however long the work.
        self._balance += seconds * (self._share - 1.0)
        self._read_at = now

    def _refill(self, now: float) -> None:
        if self._read_at is not None:
            elapsed = max(0.0, now - self._read_at)
            self._balance = min(self._burst, self._balance + elapsed * self._share)
        self._read_at = now
