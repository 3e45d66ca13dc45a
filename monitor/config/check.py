"""Settings of checks: answers judged before they are given."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from monitor.config.section import Section

Milliseconds = Annotated[int, Field(ge=1, le=600_000)]


class CheckSettings(Section):
    """Checks of answers while somebody waits for them, `POST /v1/check` of the sidecar; see docs/check.md."""

    enabled: bool = False
    """Answer checks. The sidecar then has one process more, which holds the judges."""
    judge: Literal["screen", "cascade"] = "cascade"
    """The screen alone, or also the encoder and the GGUF judge, where they are set, as `policy` says."""
    budget_milliseconds: Milliseconds = 500
    """Within which a check is answered that names no `budget_ms` of its own."""
    most_milliseconds: Milliseconds = 5000
    """The largest `budget_ms` that a caller may name."""
    most_waiting: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Checks that the judges have not done with; further ones are told that the sidecar is busy."""
    most_bytes: Annotated[int, Field(ge=1024, le=2_097_152)] = 524_288
    """Size of one check, as sent and decompressed: the screen reads all of it, some 1 MB a second."""

    @model_validator(mode="after")
    def _the_usual_is_allowed(self) -> Self:
        if self.budget_milliseconds > self.most_milliseconds:
            raise ValueError(
                f"budget_milliseconds {self.budget_milliseconds} is above most_milliseconds {self.most_milliseconds}"
            )
        return self
