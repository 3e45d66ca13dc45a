"""The tenants' budgets on the ledger: what the pool judge asks before each call."""

import asyncio
import logging
from dataclasses import dataclass

from monitor.config import PoolSettings
from monitor.domain.errors import InvalidMessage, LedgerUnavailable
from monitor.inference.pool_spending import BudgetSpent
from monitor.routing.spend import Budget, Spend, Tokens
from monitor.storage.spend import Charge, SpendStore

logger = logging.getLogger(__name__)


class BudgetedSpending:
    """Charges calls to tenants, within their budgets; for any number of workers on one ledger.

    Args:
        store: what was spent, in Postgres.
        settings: the budgets.
    """

    def __init__(self, store: SpendStore, settings: PoolSettings) -> None:
        self._store = store
        self._default = _budget(settings.budget_tokens_per_day, settings.budget_usd_per_day)
        self._own = {tenant: _budget(own.tokens, own.usd) for tenant, own in settings.tenant_budgets.items()}

    async def charge(self, tenant: str, most: Spend) -> "ChargedCall":
        """Charge a call to come; raises BudgetSpent or LedgerUnavailable, as `Spending` says."""
        budget = self._own.get(tenant, self._default)
        try:
            charge = await asyncio.to_thread(self._store.charge, tenant, most, budget)
        except InvalidMessage as error:
            raise BudgetSpent(f"the ledger cannot keep what it would cost: {error}") from error
        if charge is None:
            raise BudgetSpent(f"a call of up to {most.tokens:,} tokens exceeds what is left today of {budget}")
        return ChargedCall(self._store, charge)


@dataclass(frozen=True, slots=True)
class ChargedCall:
    """One call, charged at its upper estimate."""

    store: SpendStore
    charge: Charge

    async def settle(self, tokens: Tokens, spend: Spend) -> None:
        """Put what the call took in the estimate's place; without the ledger, the estimate stays."""
        try:
            await asyncio.to_thread(self.store.settle, self.charge, tokens=tokens, spend=spend)
        except (LedgerUnavailable, InvalidMessage) as error:
            logger.warning("a call stays charged at its estimate", extra={"error": str(error)})


def _budget(tokens: int | None, usd: float | None) -> Budget:
    return Budget(tokens=tokens, micro_usd=None if usd is None else round(usd * 1e6))
