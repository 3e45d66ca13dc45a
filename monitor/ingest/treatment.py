"""What is done to everything that is accepted before it is written anywhere: redaction, then sampling."""

from typing import Protocol

from monitor.domain.feedback import Feedback
from monitor.domain.trace import Trace


class Treatment(Protocol):
    """Called from several threads."""

    def leaves(self, raw: bytes, encoding: str) -> bool:
        """Whether `export` surely leaves it as it is; a look in time linear in its bytes, whatever they are."""

    def export(self, raw: bytes, encoding: str) -> bytes:
        """An OTLP export that can be read, as it may be written to disk; `encoding` is one of `monitor.otlp`."""

    def trace(self, trace: Trace) -> Trace | None:
        """A trace as it may be written to disk; None where sampling leaves it out, which the treatment has counted."""

    def feedback(self, feedback: Feedback) -> Feedback:
        """Feedback as it may be written to disk."""


class NoTreatment:
    """Everything as it came."""

    def leaves(self, raw: bytes, encoding: str) -> bool:  # noqa: ARG002 - nothing to read in either
        """Always."""
        return True

    def export(self, raw: bytes, encoding: str) -> bytes:  # noqa: ARG002 - nothing to read in either
        """The same."""
        return raw

    def trace(self, trace: Trace) -> Trace | None:
        """The same."""
        return trace

    def feedback(self, feedback: Feedback) -> Feedback:
        """The same."""
        return feedback


class Treatments:
    """One after the other; what one leaves out, the next does not see."""

    def __init__(self, *treatments: Treatment) -> None:
        self._treatments = treatments

    def leaves(self, raw: bytes, encoding: str) -> bool:
        """Whether all of them do."""
        return all(treatment.leaves(raw, encoding) for treatment in self._treatments)

    def export(self, raw: bytes, encoding: str) -> bytes:
        """As each of them makes it."""
        for treatment in self._treatments:
            raw = treatment.export(raw, encoding)
        return raw

    def trace(self, trace: Trace) -> Trace | None:
        """As each of them makes it."""
        kept: Trace | None = trace
        for treatment in self._treatments:
            if kept is None:
                return None
            kept = treatment.trace(kept)
        return kept

    def feedback(self, feedback: Feedback) -> Feedback:
        """As each of them makes it."""
        for treatment in self._treatments:
            feedback = treatment.feedback(feedback)
        return feedback
