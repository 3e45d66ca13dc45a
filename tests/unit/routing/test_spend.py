import pytest

from monitor.routing.spend import FRAME_TOKENS, Budget, Price, Spend, Tokens, likely_tokens, most_tokens

PRICE = Price(prompt=0.4, cached_prompt=0.1, completion=1.2)


def test_a_million_tokens_cost_the_price() -> None:
    assert PRICE.spend(Tokens(prompt=1_000_000)) == Spend(tokens=1_000_000, micro_usd=400_000)
    assert PRICE.spend(Tokens(completion=1_000_000)).micro_usd == 1_200_000
    assert PRICE.spend(Tokens(prompt=1_000_000, cached=1_000_000)).micro_usd == 100_000


def test_cached_tokens_are_part_of_the_prompt() -> None:
    tokens = Tokens(prompt=1000, cached=400, completion=10)
    assert tokens.total == 1010
    assert PRICE.micro_usd(tokens) == pytest.approx(600 * 0.4 + 400 * 0.1 + 10 * 1.2)
    assert PRICE.micro_usd(Tokens(prompt=10, cached=99)) == pytest.approx(1.0)  # a server's slip costs no more


def test_money_is_rounded_up_and_never_by_noise() -> None:
    assert Price(prompt=0.1).spend(Tokens(prompt=1)).micro_usd == 1
    assert Price(prompt=0.1).spend(Tokens(prompt=30)).micro_usd == 3  # 0.1 * 30 is 3.0000000000000004
    assert PRICE.spend(Tokens()) == Spend()


def test_at_most_costs_at_least_what_it_then_costs() -> None:
    most = PRICE.most(Tokens(prompt=1000, completion=10))
    for cached in (0, 500, 1000):
        real = PRICE.spend(Tokens(prompt=1000, cached=cached, completion=10))
        assert real.micro_usd <= most.micro_usd
    odd = Price(prompt=0.1, cached_prompt=5.0)
    assert odd.most(Tokens(prompt=100)).micro_usd == 500


def test_a_budget_bears_what_does_not_exceed_it() -> None:
    budget = Budget(tokens=100, micro_usd=2_500_000)
    assert budget.exceeded_by(Spend(tokens=100, micro_usd=2_500_000)) is None
    assert budget.exceeded_by(Spend(tokens=101)) == "100 tokens"
    assert budget.exceeded_by(Spend(micro_usd=2_500_001)) == "2.50 USD"
    assert Budget().exceeded_by(Spend(tokens=10**12, micro_usd=10**12)) is None
    assert Budget(tokens=0).exceeded_by(Spend(tokens=1)) == "0 tokens"
    assert [str(b) for b in (budget, Budget(), Budget(tokens=5))] == ["100 tokens and 2.50 USD", "no limit", "5 tokens"]


def test_there_are_never_more_tokens_than_bytes() -> None:
    assert most_tokens(prompt_bytes=1000, completion=16) == Tokens(prompt=1000 + FRAME_TOKENS, completion=16)
    likely = likely_tokens(prompt_bytes=1001, completion_bytes=3)
    assert likely == Tokens(prompt=251, completion=1)
    assert likely + likely == Tokens(prompt=502, completion=2)
