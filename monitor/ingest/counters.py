"""What the sidecar counts, behind a port so that ingest needs to know no telemetry library."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Refusal(StrEnum):
    """Why a request or one of its traces was not accepted. A closed list: each becomes a metric's attribute."""

    NOT_JSON = "not_json"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    TOO_MANY = "too_many"
    UNSUPPORTED = "unsupported"
    TOO_SLOW = "too_slow"
    BUSY = "busy"
    OVER_SHARE = "over_share"
    """Of places that tenants share, theirs are taken."""
    UNREAD = "unread"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    SPOOL_FULL = "spool_full"
    SPOOL_UNAVAILABLE = "spool_unavailable"


class Denial(StrEnum):
    """Why a caller was not let in, which the caller is not told. A closed list, as refusals are."""

    MISSING = "missing"
    """No bearer token."""
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    OTHER_TENANT = "other_tenant"
    """The token holds, and what was sent names another tenant than its own."""


class Drop(StrEnum):
    """Why what could have been watched is not, by the operator's own policy. A closed list, as refusals are."""

    SAMPLED_OUT = "sampled_out"
    """A trace that sampling left out; never written."""
    TOO_OLD = "too_old"
    """What waited on disk beyond the age limit: a trace, or an OTLP export, which counts as one."""


class IngestCounters(Protocol):
    """Receives every count as it happens, from any thread; must neither block nor raise."""

    def accepted(self, count: int) -> None:
        """So many traces are on disk and acknowledged."""

    def refused(self, reason: Refusal, *, field: str | None = None) -> None:
        """One trace, or one whole request, was refused; `field` is the trace's top-level field to blame."""

    def denied(self, cause: Denial) -> None:
        """One caller was not let in; where that refused something that was to be kept, `refused` was told, too."""

    def forwarded(self, count: int) -> None:
        """Kafka has confirmed so many records."""

    def set_aside(self, count: int) -> None:
        """So many records cannot be sent, and are kept on disk."""

    def retried(self) -> None:
        """Kafka failed; the forwarder waits and starts over from the last confirmed record."""

    def dropped(self, reason: Drop, count: int) -> None:
        """So much is given up by policy."""

    def redacted(self, rule: str, count: int) -> None:
        """A redaction rule has found something so often."""


class NoCounters:
    """Counts nothing."""

    def accepted(self, count: int) -> None:
        """Nothing."""

    def refused(self, reason: Refusal, *, field: str | None = None) -> None:
        """Nothing."""

    def denied(self, cause: Denial) -> None:
        """Nothing."""

    def forwarded(self, count: int) -> None:
        """Nothing."""

    def set_aside(self, count: int) -> None:
        """Nothing."""

    def retried(self) -> None:
        """Nothing."""

    def dropped(self, reason: Drop, count: int) -> None:
        """Nothing."""

    def redacted(self, rule: str, count: int) -> None:
        """Nothing."""


@dataclass(kw_only=True, slots=True)
class Tally:
    """Counts since the process started, for `/v1/status`, and hands each on to other counters.

    `refusals` has a key a reason, or `reason:field` where a field was to blame.
    """

    then: IngestCounters = field(default_factory=NoCounters)
    accepted_total: int = 0
    forwarded_total: int = 0
    set_aside_total: int = 0
    retries_total: int = 0
    _refusals: Counter[str] = field(default_factory=Counter)
    _denials: Counter[str] = field(default_factory=Counter)
    _drops: Counter[str] = field(default_factory=Counter)
    _redactions: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def refusals(self) -> Mapping[str, int]:
        """A copy of the refusals by reason."""
        with self._lock:
            return dict(self._refusals)

    @property
    def denials(self) -> Mapping[str, int]:
        """A copy of how many callers were not let in, by cause."""
        with self._lock:
            return dict(self._denials)

    @property
    def redactions(self) -> Mapping[str, int]:
        """A copy of what redaction rules have found, by rule."""
        with self._lock:
            return dict(self._redactions)

    @property
    def drops(self) -> Mapping[str, int]:
        """A copy of the drops by reason."""
        with self._lock:
            return dict(self._drops)

    def accepted(self, count: int) -> None:
        """Count, and hand on."""
        with self._lock:
            self.accepted_total += count
        self.then.accepted(count)

    def refused(self, reason: Refusal, *, field: str | None = None) -> None:
        """Count, and hand on."""
        with self._lock:
            self._refusals[f"{reason}:{field}" if field else str(reason)] += 1
        self.then.refused(reason, field=field)

    def denied(self, cause: Denial) -> None:
        """Count, and hand on."""
        with self._lock:
            self._denials[cause] += 1
        self.then.denied(cause)

    def forwarded(self, count: int) -> None:
        """Count, and hand on."""
        with self._lock:
            self.forwarded_total += count
        self.then.forwarded(count)

    def set_aside(self, count: int) -> None:
        """Count, and hand on."""
        with self._lock:
            self.set_aside_total += count
        self.then.set_aside(count)

    def retried(self) -> None:
        """Count, and hand on."""
        with self._lock:
            self.retries_total += 1
        self.then.retried()

    def dropped(self, reason: Drop, count: int) -> None:
        """Count, and hand on."""
        with self._lock:
            self._drops[reason] += count
        self.then.dropped(reason, count)

    def redacted(self, rule: str, count: int) -> None:
        """Count, and hand on."""
        with self._lock:
            self._redactions[rule] += count
        self.then.redacted(rule, count)
