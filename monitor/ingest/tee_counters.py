"""What the tee counts, behind a port so that ingest needs to know no telemetry library."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class TeeDrop(StrEnum):
    """Why an export was not passed on. A closed list: each becomes a metric's attribute."""

    FULL = "full"
    REFUSED = "refused"
    GAVE_UP = "gave_up"
    STOPPED = "stopped"


class TeeCounters(Protocol):
    """Receives every count as it happens, from any thread; must neither block nor raise."""

    def passed_on(self) -> None:
        """The endpoint has taken one export."""

    def retried(self) -> None:
        """The endpoint failed; the same export is sent again later."""

    def dropped(self, reason: TeeDrop, count: int) -> None:
        """So many exports will not be passed on."""

    def waiting(self, size_bytes: int) -> None:
        """So much waits now."""


class NoTeeCounters:
    """Counts nothing."""

    def passed_on(self) -> None:
        """Nothing."""

    def retried(self) -> None:
        """Nothing."""

    def dropped(self, reason: TeeDrop, count: int) -> None:
        """Nothing."""

    def waiting(self, size_bytes: int) -> None:
        """Nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeeState:
    """What the tee is about, since the process started; `problem` is why the endpoint does not take exports now."""

    forwarded: int
    dropped: Mapping[str, int]
    retries: int
    waiting: int
    waiting_bytes: int
    problem: str | None
