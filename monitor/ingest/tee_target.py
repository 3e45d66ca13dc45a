"""Where the tee passes exports on to, and what the answers mean (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP")."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime

from monitor.ingest.forward import Backoff
from monitor.outbound import HttpAnswer

_PATH = "/v1/traces"
_RETRYABLE = (429, 502, 503, 504)
_OK, _REDIRECTION = 200, 300


@dataclass(frozen=True, kw_only=True, slots=True)
class TeeTarget:
    """Where exports are passed on to.

    Attributes:
        endpoint: base URL, or that of its `/v1/traces`.
        headers: sent with each, such as a vendor's API key.
        seconds: within which the endpoint must have answered.
        give_up_seconds: after which an export that still fails is dropped.
        backoff: between attempts, where the endpoint names no time itself.
    """

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 10.0
    give_up_seconds: float = 300.0
    backoff: Backoff = field(default_factory=lambda: Backoff(limit_seconds=30.0))

    @property
    def url(self) -> str:
        """Of the traces."""
        base = self.endpoint.rstrip("/")
        return base if base.endswith(_PATH) else base + _PATH


def is_taken(answer: HttpAnswer) -> bool:
    """Whether the endpoint has the export, or as much of it as it will ever take."""
    return _OK <= answer.status < _REDIRECTION


def is_final(answer: HttpAnswer) -> bool:
    """Whether asking again cannot help."""
    return answer.status not in _RETRYABLE


def retry_after(answer: HttpAnswer, *, now: datetime) -> float:
    """Seconds that the answer asks for, as a number or as a date (RFC 9110, 10.2.3); 0 where it names none."""
    named = answer.headers.get("retry-after", "").strip()
    if named.isdecimal():
        return float(named[:9])
    try:
        return max(0.0, (parsedate_to_datetime(named) - now).total_seconds())
    except (ValueError, TypeError):  # TypeError: a date without a zone
        return 0.0
