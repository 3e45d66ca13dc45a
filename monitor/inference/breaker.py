"""A circuit breaker: stop calling a server that is down, and find out cheaply when it is back."""


class CircuitBreaker:
    """Opens after consecutive failures; while open, lets one call through per reset period.

    The call that is let through needs no bookkeeping of its own: it opens the next period as it begins, so one
    that never reports back (cancelled, killed) delays the next try and cannot block it. Not thread-safe.

    Args:
        failures: consecutive failures that open the circuit.
        reset_seconds: how long an open circuit waits between two tries.
    """

    def __init__(self, *, failures: int, reset_seconds: float) -> None:
        self._limit = failures
        self._reset = reset_seconds
        self._failed = 0
        self._opened_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are being held back."""
        return self._opened_at is not None

    def allows(self, now: float) -> bool:
        """Whether a call may be made at `now` (a steady clock, in seconds); asking is taking the chance."""
        if not self.would_allow(now):
            return False
        if self._opened_at is not None:
            self._opened_at = now
        return True

    def would_allow(self, now: float) -> bool:
        """The same without taking the chance."""
        return self._opened_at is None or now - self._opened_at >= self._reset

    def succeeded(self) -> None:
        """A call was answered: close."""
        self._failed = 0
        self._opened_at = None

    def failed(self, now: float) -> None:
        """A call failed in a way that says the server is down."""
        self._failed += 1
        if self._failed >= self._limit:
            self._opened_at = now
