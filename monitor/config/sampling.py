"""Settings of which traces are watched at all."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from monitor.config.section import Section, Share

Named = Annotated[str, Field(min_length=1, max_length=64)]


class SamplingRuleSettings(Section):
    """How probably the traces of some segments are kept; what is absent is any."""

    tenant: Named | None = None
    """Of this tenant."""
    service: Named | None = None
    """Of this service."""
    environment: Named | None = None
    """Of this environment."""
    probability: Share
    """They are kept with."""

    @model_validator(mode="after")
    def _says_whose(self) -> Self:
        if self.tenant is None and self.service is None and self.environment is None:
            raise ValueError("a rule names a tenant, a service or an environment; for all others there is probability")
        return self


class SamplingSettings(Section):
    """Which traces the sidecar keeps; the others are answered, counted, and never written. See docs/sampling.md."""

    probability: Share = 1.0
    """Each trace is kept with this probability, by its id: the same ones at every sidecar."""
    rules: tuple[SamplingRuleSettings, ...] = ()
    """For some segments: each with `probability` and any of `tenant`, `service`, `environment`; the first counts."""
