"""How a call to the pool fails, and what that says about trying again."""

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum

from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.outbound import HttpAnswer

BUSY = frozenset({429, 503})
"""A server that is well and has too much to do says one of these."""

_SERVER_ERROR = 500


class Later(Enum):
    """What a failure that may pass says about trying its trace again."""

    POOL_AWAY = "pool away"
    """Every circuit is open and no server was asked: ask for no trace for a while."""
    UNCOUNTED = "uncounted"
    """No server was reached, it is busy, or refuses whoever asks: not this trace's fault, as far as one can tell."""
    COUNTED = "counted"
    """The server had the trace, and failed on it or was too slow: after some tries it is the trace's fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PassingFailure(CouldNotJudge):
    """A failure that may pass: leave the escalation queued. Every other failure is final for the trace."""

    later: Later


def passing(detail: str, later: Later, reason: Unjudgeable = Unjudgeable.JUDGE_UNAVAILABLE) -> PassingFailure:
    """A failure that may pass."""
    return PassingFailure(reason=reason, detail=detail, later=later)


def failure_of(answer: HttpAnswer) -> PassingFailure:
    """What an answer says that is neither a completion nor a refusal of what was asked."""
    failed_on_it = answer.status >= _SERVER_ERROR and answer.status not in BUSY
    return passing(reported(answer), Later.COUNTED if failed_on_it else Later.UNCOUNTED)


def reported(answer: HttpAnswer) -> str:
    """An answer's status and beginning, for operators."""
    return f"HTTP {answer.status}: {answer.text[:300]}"


def retry_after(answer: HttpAnswer, *, now: float) -> float | None:
    """Seconds that the server asked for (RFC 9110, section 10.2.3: a number, or a date), or None.

    Args:
        answer: with or without the header.
        now: seconds since 1970, for a date.
    """
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError):
        return None
    return max(0.0, at - now)
