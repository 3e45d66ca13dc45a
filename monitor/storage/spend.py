"""What tenants have spent on the pool, by UTC day. Before a call its upper estimate is charged; after it, what it took.

A call that never reports back (its worker died, it was cancelled, its server fell silent) stays charged at the
estimate: a budget may end a little early, and is never exceeded. The day is that of the database's clock, which the
workers share.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Engine, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.elements import ColumnElement

from monitor.routing.spend import Budget, Spend, Tokens
from monitor.storage.engine import snapshot, transaction
from monitor.storage.storable import storable
from monitor.storage.tables import pool_spend


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """One call's upper estimate, as charged: what `settle` puts right."""

    tenant: str
    day: date
    most: Spend


class SpendStore:
    """The ledger of what was spent. Any number of workers at once; each operation is one short transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def charge(self, tenant: str, most: Spend, budget: Budget) -> Charge | None:
        """Charge a call to come, if what is left of the tenant's budget of today bears it.

        Returns:
            None, with nothing charged, when it does not.

        Raises:
            LedgerUnavailable: nothing is known to be charged.
        """
        if budget.exceeded_by(most):
            return None
        tenant = storable(tenant)
        first = insert(pool_spend).values(
            tenant=tenant, day=_TODAY, calls=1, tokens=most.tokens, micro_usd=most.micro_usd
        )
        # One statement: the row's lock makes two workers that want the last of a budget take turns.
        charge = first.on_conflict_do_update(
            index_elements=[pool_spend.c.tenant, pool_spend.c.day],
            set_={name: pool_spend.c[name] + first.excluded[name] for name in ("calls", "tokens", "micro_usd")},
            where=_within(pool_spend.c.tokens + most.tokens, budget.tokens)
            & _within(pool_spend.c.micro_usd + most.micro_usd, budget.micro_usd),
        ).returning(pool_spend.c.day)
        with transaction(self._engine) as connection:
            day = connection.execute(charge).scalar_one_or_none()
        return None if day is None else Charge(tenant=tenant, day=day, most=most)

    def settle(self, charge: Charge, *, tokens: Tokens, spend: Spend) -> None:
        """Put what a call really took in the place of its estimate. Do not repeat it: it adds.

        Raises:
            LedgerUnavailable: the estimate may still be charged; leave it so.
        """
        change = {
            "settled": 1,
            "tokens": spend.tokens - charge.most.tokens,
            "micro_usd": spend.micro_usd - charge.most.micro_usd,
            "prompt_tokens": tokens.prompt,
            "cached_tokens": tokens.cached,
            "completion_tokens": tokens.completion,
        }
        with transaction(self._engine) as connection:
            connection.execute(
                update(pool_spend)
                .where(pool_spend.c.tenant == charge.tenant, pool_spend.c.day == charge.day)
                .values({name: pool_spend.c[name] + by for name, by in change.items()})
            )

    def today(self, tenant: str) -> Spend:
        """What a tenant is charged today, estimates of calls under way included."""
        query = select(pool_spend.c.tokens, pool_spend.c.micro_usd).where(
            pool_spend.c.tenant == storable(tenant), pool_spend.c.day == _TODAY
        )
        with snapshot(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return Spend() if row is None else Spend(tokens=row.tokens, micro_usd=row.micro_usd)


_TODAY: ColumnElement[Any] = func.date(func.timezone("UTC", func.now()))


def _within(amount: ColumnElement[Any], limit: int | None) -> ColumnElement[bool]:
    return or_(literal(limit is None), amount <= (limit or 0))
