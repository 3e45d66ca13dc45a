"""Silences: times in which subscriptions do not hear of a segment's alerts. The alerts live on as always."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, exists, func, insert, literal, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from monitor.domain.errors import InvalidInput
from monitor.domain.trace import Segment
from monitor.storage.engine import snapshot, transaction
from monitor.storage.storable import storable
from monitor.storage.tables import silences

LONGEST = timedelta(days=30)
"""A longer silence is a subscription that should go."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Silence:
    """One silence.

    Attributes:
        service, environment: only alerts of this one; None is all.
        ended_at, ended_by: when and by whom it was ended before its time, if so.
    """

    silence_id: str
    tenant: str
    service: str | None
    environment: str | None
    starts_at: datetime
    ends_at: datetime
    reason: str
    created_by: str
    created_at: datetime
    ended_at: datetime | None
    ended_by: str | None


def add_silence(
    engine: Engine,
    *,
    tenant: str,
    service: str | None = None,
    environment: str | None = None,
    starts_at: datetime,
    ends_at: datetime,
    reason: str,
    created_by: str,
    now: datetime,
) -> Silence:
    """Keep a silence from `starts_at` to before `ends_at`.

    Raises:
        InvalidInput: it is over already, ends before it starts or takes more than 30 days.
    """
    _check(starts_at, ends_at, now)
    change = (
        insert(silences)
        .values(
            silence_id=secrets.token_hex(8),
            tenant=tenant,
            service=service,
            environment=environment,
            starts_at=starts_at,
            ends_at=ends_at,
            reason=storable(reason),
            created_by=storable(created_by),
        )
        .returning(silences)
    )
    with transaction(engine) as connection:
        return _to_silence(connection.execute(change).one())


def end_silence(engine: Engine, silence_id: str, *, ended_by: str) -> bool:
    """End a silence now, or take back one that is to come; False when there is none with this id that is not over."""
    change = (
        update(silences)
        .where(silences.c.silence_id == silence_id, _not_over())
        .values(ended_at=func.now(), ended_by=storable(ended_by))
    )
    with transaction(engine) as connection:
        return connection.execute(change).rowcount == 1


def find_silences(engine: Engine, *, past: bool = False) -> list[Silence]:
    """Silences that hold or are to come, or all; the one that ends first comes first."""
    query = select(silences).order_by(silences.c.ends_at, silences.c.silence_id)
    if not past:
        query = query.where(_not_over())
    with snapshot(engine) as connection:
        return [_to_silence(row) for row in connection.execute(query)]


def is_silenced(connection: Connection, segment: Segment) -> bool:
    """Whether a silence covers the segment now, by the database's clock."""
    return bool(connection.execute(select(_covering(segment.tenant, segment.service, segment.environment))).scalar())


def silenced_now(table: Table) -> ColumnElement[bool]:
    """Whether a silence covers the segment in a row of this table now."""
    return _covering(table.c.tenant, table.c.service, table.c.environment)


def _covering(tenant: Any, service: Any, environment: Any) -> ColumnElement[bool]:
    return exists(
        select(literal(1))
        .select_from(silences)
        .where(
            silences.c.tenant == tenant,
            or_(silences.c.service.is_(None), silences.c.service == service),
            or_(silences.c.environment.is_(None), silences.c.environment == environment),
            silences.c.starts_at <= func.now(),
            _not_over(),
        )
    )


def _not_over() -> ColumnElement[bool]:
    return silences.c.ended_at.is_(None) & (silences.c.ends_at > func.now())


def _check(starts_at: datetime, ends_at: datetime, now: datetime) -> None:
    if ends_at <= now:
        raise InvalidInput(f"--until: {ends_at:%Y-%m-%d %H:%M} UTC is past; a silence ends in the future")
    if ends_at <= starts_at:
        raise InvalidInput("--until: a silence ends after it starts; give a time after --from")
    if ends_at - starts_at > LONGEST:
        raise InvalidInput(
            f"--until: a silence takes at most {LONGEST.days} days; shorten it, or unsubscribe the webhook"
        )


def _to_silence(row: Row[Any]) -> Silence:
    return Silence(**row._asdict())
