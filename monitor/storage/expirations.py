"""Up to when rows are gone, by kind and tenant: the table `expirations`.

`before` is promised, and committed, before anything goes: from then on recounts leave out what is older, and the pool's
words of an hour that is older change its sum no more. `done` follows once it is gone; what lies between the two is
still to be done, also where a process was stopped. Rows that come for a time that was done are found by `seen`:
transactions that the last pass could not see have changed their minute of the rollups since.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine, text

from monitor.storage.engine import snapshot, transaction

EVERYBODY: Final = "*"
"""Stands for all tenants that have no row of their own."""

BEGINNING: Final = datetime.min.replace(tzinfo=UTC)

# A release before this one kept no `done`: it took away at once what it promised.
_KNOWN = text("""
select tenant, before, coalesce(done, before) as done, seen::text as seen from expirations where kind = :kind
""")

_LOOKS = text("select pg_snapshot_xmin(pg_current_snapshot())::text")

_PROMISE = text("""
insert into expirations as known (kind, tenant, before, done) values (:kind, :tenant, :before, :done)
on conflict (kind, tenant) do update
set before = greatest(known.before, excluded.before), done = coalesce(known.done, known.before)
""")

_FINISH = text("""
update expirations set done = greatest(done, :through), seen = cast(cast(:seen as text) as xid8)
where kind = :kind and tenant = :tenant
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Keeping:
    """For how many days rows of one kind are kept.

    Attributes:
        days: of every tenant that is not named.
        tenants: of those that are.
    """

    days: int
    tenants: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Tenants that keep rows of one kind equally long.

    Attributes:
        tenants: these; of `EVERYBODY` those that it does not stand for.
        done: up to there all is gone but what came late.
        through: up to there all has to go.
        promised: up to there all had to go once; later than `through` where times became longer.
        seen: what transactions before this one wrote was gone when `done` was done; None where nobody knows.
        looks: as `seen`, of this pass.
    """

    kind: str
    tenant: str
    tenants: tuple[str, ...]
    done: datetime
    through: datetime
    promised: datetime
    seen: str | None = None
    looks: str | None = None

    def whose(self, column: str) -> str:
        """The condition that a row is theirs, as SQL; `asked` holds its parameters."""
        return f"{column} <> all(:tenants)" if self.tenant == EVERYBODY else f"{column} = any(:tenants)"

    @property
    def asked(self) -> dict[str, object]:
        """Parameters of statements about these rows."""
        return {"tenants": list(self.tenants), "done": self.done, "before": self.through, "seen": self.seen}


def midnight(day: date) -> datetime:
    """When a day of event time begins."""
    return datetime.combine(day, datetime.min.time(), UTC)


def scopes(engine: Engine, kind: str, kept: Keeping, *, today: date) -> list[Scope]:
    """What has to go, by tenants, without a promise."""
    with snapshot(engine) as connection:
        return _scopes(connection, kind, kept, today=today)


def promise(engine: Engine, kind: str, kept: Keeping, *, today: date) -> list[Scope]:
    """What has to go, by tenants; that it goes is committed when this returns.

    Raises:
        LedgerUnavailable: nothing was promised.
    """
    with transaction(engine) as connection:
        found = _scopes(connection, kind, kept, today=today)
        for one in found:
            values = {"kind": kind, "tenant": one.tenant, "before": one.promised, "done": one.done}
            connection.execute(_PROMISE, values)
    return found


def finish(engine: Engine, scope: Scope, *, through: datetime) -> None:
    """All that has to go before `through` is gone."""
    with transaction(engine) as connection:
        values = {"kind": scope.kind, "tenant": scope.tenant, "through": through, "seen": scope.looks}
        connection.execute(_FINISH, values)


def _scopes(connection: Connection, kind: str, kept: Keeping, *, today: date) -> list[Scope]:
    looks = connection.execute(_LOOKS).scalar_one()
    known = {row.tenant: row for row in connection.execute(_KNOWN, {"kind": kind})}
    # Who had times of their own, and has them no longer, is as all others, but for what is done.
    limits = dict.fromkeys(known, kept.days) | {EVERYBODY: kept.days} | dict(kept.tenants)
    own = tuple(sorted(name for name in limits if name != EVERYBODY))
    made = []
    for name in (EVERYBODY, *own):
        through = midnight(today - timedelta(days=limits[name]))
        before = known.get(name, known.get(EVERYBODY))
        made.append(
            Scope(
                kind=kind,
                tenant=name,
                tenants=own if name == EVERYBODY else (name,),
                done=before.done if before else BEGINNING,
                through=through,
                promised=max(through, before.before) if before else through,
                seen=before.seen if before else None,
                looks=looks,
            )
        )
    return made
