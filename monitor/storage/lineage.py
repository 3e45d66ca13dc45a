"""Lineage: everything that the ledger knows of one trace, in the order in which it happened.

For a person who asks about one answer. It looks a trace up over all days, so it is nothing for batches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine, text

from monitor.storage.engine import snapshot

_LAST = datetime.max.replace(tzinfo=UTC)


class Happening(StrEnum):
    """What can happen to a trace, in the order in which it does where times are equal."""

    ANSWERED = "answered"
    RECEIVED = "received"
    DEAD_LETTER = "dead letter"
    JUDGED = "judged"
    FIRST_VERDICT = "first verdict"
    DECIDED = "decided"
    COUNTED = "counted"
    ESCALATED = "escalated"
    SETTLED = "settled"
    REVISED = "revised"
    ALERT = "alert"
    CONFIRMING = "confirming"
    DRAWN = "drawn"
    LABELLED = "labelled"
    FEEDBACK = "feedback"
    NOT_SEARCHED = "not searched"
    WAITS = "waits"
    VERDICT = "verdict"


_RANK = {happening: rank for rank, happening in enumerate(Happening)}
_NOW = {Happening.NOT_SEARCHED, Happening.WAITS, Happening.VERDICT}


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceKey:
    """A trace by its own id."""

    tenant: str
    trace_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One thing that happened to a trace.

    Attributes:
        at: when, by the clock of whoever did it; None where the ledger keeps no time of it, and for what is so now.
        near: the time beside which it is shown; `at`, where there is one.
        evaluator, judge_version, event_time: of the verdict that it is part of; None for what concerns the trace as
            such. Answers with one id differ in their event times.
        facts: what is known of it, JSON values and times.
    """

    happening: Happening
    at: datetime | None
    facts: Mapping[str, Any]
    near: datetime | None = None
    evaluator: str | None = None
    judge_version: str | None = None
    event_time: datetime | None = None


def find_traces(engine: Engine, name: str, *, tenant: str | None = None) -> list[TraceKey]:
    """The traces of this id, or those of the OpenTelemetry trace of this id, by tenant.

    Args:
        engine: of the ledger.
        name: the trace's own id or OpenTelemetry's, the latter in any case.
        tenant: whose; None asks all.

    Returns:
        Traces that bear the id themselves, where there are any; else those of the OpenTelemetry trace.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    asked = {"tenant": tenant, "name": name, "names": list({name, name.lower()}), "otel": name.lower()}
    with snapshot(engine) as connection:
        for query in (_BY_OWN_ID, _BY_OTEL_ID):
            found = connection.execute(text(_TENANTS + query), asked).all()
            if found:
                return [TraceKey(tenant=row.tenant, trace_id=row.trace_id) for row in found]
    return []


def in_order(steps: list[Step]) -> list[Step]:
    """The same steps, the earliest first; what is so now comes last."""
    return sorted(steps, key=lambda step: (_time(step), _RANK[step.happening]))


def _time(step: Step) -> datetime:
    return _LAST if step.happening in _NOW else step.at or step.near or _LAST


# The verdicts' key begins with the tenant, hence tenants first: from one to the next, without reading all rollups.
_TENANTS = """
with recursive tenants as (
    (select tenant from rollups where tenant = coalesce(:tenant, tenant) order by tenant limit 1)
    union all
    select (
        select next.tenant from rollups as next
        where next.tenant > tenants.tenant and cast(:tenant as text) is null
        order by next.tenant limit 1
    )
    from tenants where tenants.tenant is not null
)
"""

# With a limit: without, the planner may join, and read all verdicts.
_BY_OWN_ID = """
select tenants.tenant, own.trace_id
from tenants
cross join lateral (
    select distinct trace_id from verdicts
    where verdicts.tenant = tenants.tenant and verdicts.trace_id = any(:names)
    limit 2
) as own
order by tenant, trace_id
"""

_BY_OTEL_ID = """
select tenants.tenant, otel_traces.trace_id
from tenants
join otel_traces on otel_traces.tenant = tenants.tenant and otel_traces.otel_trace_id = :otel
order by tenant, trace_id
"""
