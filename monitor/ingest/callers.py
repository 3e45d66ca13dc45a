"""Who sends, and for which tenant."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """One who was let in.

    Attributes:
        tenant: whom all that it sends belongs to; None where it may say so itself.
    """

    tenant: str | None = None


ANYBODY = Caller()


class Gate(Protocol):
    """Lets callers in."""

    @property
    def problem(self) -> str | None:
        """What keeps it from doing as it should, if anything does."""

    def admit(self, authorization: str | None) -> Caller:
        """Who the request's `Authorization` header speaks for.

        Raises:
            RequestRefused: 401, nobody.
        """


class OpenGate:
    """Lets everybody in: for a sidecar that only its own service can reach."""

    problem = None

    def admit(self, authorization: str | None) -> Caller:  # noqa: ARG002 - a gate that asks for nothing
        """Anybody."""
        return ANYBODY
