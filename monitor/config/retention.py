"""Settings of retention: how long the ledger keeps what."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from monitor.config.section import Seconds, Section

Days = Annotated[int, Field(ge=1, le=36_500)]


class TenantRetention(BaseModel):
    """For how many days of event time one tenant's rows are kept; what is left out is as for all others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    payload_days: Days | None = None
    verdict_days: Days | None = None


class RetentionSettings(Section):
    """How long the ledger keeps what, in days of event time; the ledger worker sees to it. Rollups stay for ever."""

    payload_days: Days = 90
    """Questions, documents and answers."""
    verdict_days: Days = 730
    """Verdicts and judgements, with their evidence."""
    dead_letter_days: Days = 90
    """Records that could not be taken in, as they came: days since they were set aside. Their number stays."""
    tenants: Annotated[tuple[TenantRetention, ...], Field(max_length=1000)] = ()
    """Tenants with times of their own: `{tenant, payload_days, verdict_days}`."""
    every_seconds: Seconds = 21_600.0
    """How often what is kept no longer is taken away."""

    @model_validator(mode="after")
    def _texts_go_first(self) -> "RetentionSettings":
        if self.payload_days > self.verdict_days:
            raise ValueError("payload_days should be at most verdict_days: texts without their verdict say nothing")
        for own in self.tenants:
            if (own.payload_days or self.payload_days) > (own.verdict_days or self.verdict_days):
                raise ValueError(f"tenant {own.tenant!r}: payload_days should be at most verdict_days")
        if len({one.tenant for one in self.tenants}) < len(self.tenants):
            raise ValueError("each tenant should be named once")
        return self
