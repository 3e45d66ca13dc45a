"""Who pays for calls to the pool: the port, and the price table of the settings."""

from typing import Protocol

from monitor.config import PoolSettings
from monitor.routing.spend import Price, Spend, Tokens


class BudgetSpent(Exception):
    """A tenant's budget does not bear the call. The message says which budget."""


class Charged(Protocol):
    """A call's upper estimate, charged to a tenant."""

    async def settle(self, tokens: Tokens, spend: Spend) -> None:
        """Put what the call really took in its place. Raises nothing: at worst the estimate stays charged."""


class Spending(Protocol):
    """The tenants' budgets: `monitor.services.spending.BudgetedSpending`."""

    async def charge(self, tenant: str, most: Spend) -> Charged:
        """Charge a call to come with its upper estimate.

        Raises:
            BudgetSpent: the tenant's budget does not bear it; nothing is charged.
            LedgerUnavailable: nobody can tell; make no call.
        """


def price_of(settings: PoolSettings) -> Price:
    """The model's entry in the price table, else the two prices beside it."""
    listed = settings.prices.get(settings.model)
    if listed is None:
        prompt, completion = settings.usd_per_million_prompt_tokens, settings.usd_per_million_completion_tokens
        return Price(prompt=prompt, cached_prompt=prompt, completion=completion)
    cached = listed.prompt if listed.cached_prompt is None else listed.cached_prompt
    return Price(prompt=listed.prompt, cached_prompt=cached, completion=listed.completion)
