"""A request that is refused as a whole, and how hostile text is shown to the one who sent it."""

from monitor.ingest.counters import Denial, IngestCounters, Refusal

_SHOWN = 300


class RequestRefused(Exception):
    """The HTTP layer's own error: becomes one response, and never leaves `monitor.ingest`.

    Args:
        status: HTTP status.
        reason: what it is counted as.
        problem: what is wrong and what is allowed.
        retry_seconds: when to try again, where that can help.
        denial: why the caller was not let in, where that is why; never shown.
    """

    def __init__(
        self,
        status: int,
        reason: Refusal,
        problem: str,
        *,
        retry_seconds: int | None = None,
        denial: Denial | None = None,
    ) -> None:
        super().__init__(problem)
        self.status = status
        self.reason = reason
        self.problem = problem
        self.retry_seconds = retry_seconds
        self.denial = denial

    def count(self, counters: IngestCounters) -> None:
        """Tell of a request that was to be kept and is not."""
        counters.refused(self.reason)
        self.count_denial(counters)

    def count_denial(self, counters: IngestCounters) -> None:
        """Tell of the caller only, if it was the reason."""
        if self.denial is not None:
            counters.denied(self.denial)


def other_tenant(place: str, tenant: str) -> RequestRefused:
    """What was sent names, in such a place, another tenant than its token's; which one is not repeated."""
    problem = f"{place}: the token is of {tenant}; leave it out"
    return RequestRefused(403, Refusal.FORBIDDEN, problem, denial=Denial.OTHER_TENANT)


def shown(text: str) -> str:
    """Text from outside, made fit for a log or a terminal: no control or direction characters, not endless."""
    cut = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in cut)
