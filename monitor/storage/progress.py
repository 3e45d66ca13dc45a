"""What `status` and the demo show: how far the ledger is, per service and as a whole. Read only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from monitor.domain.alert import Alert
from monitor.domain.trace import Segment
from monitor.storage.accounting import Accounting, read_accounting
from monitor.storage.alert_rows import to_alert
from monitor.storage.engine import snapshot
from monitor.storage.tables import alerts, escalations, judgements, judges, rollups, verdicts


@dataclass(frozen=True, kw_only=True, slots=True)
class Minute:
    """One minute of event time: verdicts, and how many of them say hallucinated."""

    minute: datetime
    verdicts: int
    hallucinated: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceProgress:
    """One segment under one judge version, minutes in order."""

    segment: Segment
    judge_version: str
    verdicts: int
    hallucinated: int
    unjudged: int
    minutes: tuple[Minute, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """One instant of the ledger; `pool_waiting` counts the escalations not yet answered."""

    accounting: Accounting
    services: tuple[ServiceProgress, ...]
    alerts: tuple[Alert, ...]
    pool_waiting: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """A judge's latency over the judgements kept, in seconds."""

    judgements: int
    p50: float
    p95: float


def read_progress(engine: Engine, *, since: datetime | None = None) -> Progress:
    """Everything above, as of one instant; rollups from the minute `since` on, all of them when None.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    with snapshot(engine) as connection:
        return Progress(
            accounting=read_accounting(connection),
            services=_services(connection, since),
            alerts=tuple(to_alert(row) for row in connection.execute(select(alerts).order_by(alerts.c.raised_at))),
            pool_waiting=connection.execute(
                select(func.count()).select_from(escalations).where(escalations.c.state.in_(("waiting", "claimed")))
            ).scalar_one(),
        )


def read_latency(engine: Engine) -> dict[str, Latency]:
    """Latency per tier that has judged anything."""
    seconds = judgements.c.latency_us / 1e6
    percentile = [func.percentile_cont(share).within_group(seconds.asc()) for share in (0.5, 0.95)]
    query = (
        select(judges.c.tier, func.count(), *percentile)
        .select_from(judgements.join(judges, judgements.c.judge == judges.c.judge))
        .group_by(judges.c.tier)
        .order_by(judges.c.tier)
    )
    with snapshot(engine) as connection:
        return {
            tier: Latency(judgements=count, p50=float(p50), p95=float(p95))
            for tier, count, p50, p95 in connection.execute(query)
        }


def read_outcomes(engine: Engine, *, tenant: str) -> Sequence[tuple[str, str | None, float | None]]:
    """`(trace id, label, probability)` of every trace of a tenant; both None where it could not be judged."""
    query = select(verdicts.c.trace_id, verdicts.c.label, verdicts.c.probability).where(verdicts.c.tenant == tenant)
    with snapshot(engine) as connection:
        return [(trace_id, label, probability) for trace_id, label, probability in connection.execute(query)]


_SEGMENT = (rollups.c.tenant, rollups.c.service, rollups.c.environment, rollups.c.judge_version)


def _services(connection: Connection, since: datetime | None) -> tuple[ServiceProgress, ...]:
    query = select(rollups).order_by(*_SEGMENT, rollups.c.minute)
    if since is not None:
        query = query.where(rollups.c.minute >= since)
    rows = connection.execute(query)
    return tuple(_service(key, group) for key, group in groupby(rows, key=_key))


def _key(row: Any) -> tuple[str, str, str, str]:
    return (row.tenant, row.service, row.environment, row.judge_version)


def _service(key: tuple[str, str, str, str], rows: Iterable[Any]) -> ServiceProgress:
    tenant, service, environment, judge_version = key
    kept = list(rows)
    return ServiceProgress(
        segment=Segment(tenant=tenant, service=service, environment=environment),
        judge_version=judge_version,
        verdicts=sum(row.total for row in kept),
        hallucinated=sum(row.hallucinated for row in kept),
        unjudged=sum(row.unjudged for row in kept),
        minutes=tuple(Minute(minute=row.minute, verdicts=row.total, hallucinated=row.hallucinated) for row in kept),
    )
