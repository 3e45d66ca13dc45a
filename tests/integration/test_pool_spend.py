"""Budgets on a real Postgres and a real server: what a tenant may not spend is not spent, however many ask at once."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from monitor.config import PoolSettings
from monitor.domain.judgement import CouldNotJudge, Opinion, Unjudgeable
from monitor.domain.trace import Trace
from monitor.embedded.postgres import EmbeddedPostgres
from monitor.inference.pool import PoolJudge
from monitor.inference.pool_failure import Later, PassingFailure
from monitor.outbound import AsyncHttpClient
from monitor.routing.spend import Budget, Spend, Tokens
from monitor.services.spending import BudgetedSpending
from monitor.storage.engine import transaction
from monitor.storage.spend import Charge, SpendStore
from monitor.storage.tables import pool_spend
from tests.examples.assessments import trace
from tests.support.unruly_server import UnrulyServer, completion, hang, status

HUNDRED = Spend(tokens=100, micro_usd=40)


@pytest.fixture
def store(engine: Engine) -> SpendStore:
    return SpendStore(engine)


@pytest.fixture
def server() -> Iterator[UnrulyServer]:
    with UnrulyServer.serving() as server:
        yield server


def rows(engine: Engine) -> list[Any]:
    with transaction(engine) as connection:
        return list(connection.execute(select(pool_spend).order_by(pool_spend.c.tenant)).all())


def test_a_call_is_charged_at_most_and_settled_at_what_it_took(engine: Engine, store: SpendStore) -> None:
    charge = store.charge("acme", HUNDRED, Budget())
    assert charge is not None
    assert store.today("acme") == HUNDRED
    store.settle(charge, tokens=Tokens(prompt=20, cached=8, completion=5), spend=Spend(tokens=25, micro_usd=10))
    assert store.today("acme") == Spend(tokens=25, micro_usd=10)
    [row] = rows(engine)
    assert (row.calls, row.settled, row.prompt_tokens, row.cached_tokens, row.completion_tokens) == (1, 1, 20, 8, 5)


@pytest.mark.parametrize("budget", [Budget(tokens=350), Budget(micro_usd=140), Budget(tokens=300, micro_usd=10**9)])
def test_what_does_not_fit_is_not_charged(store: SpendStore, budget: Budget) -> None:
    charges = [store.charge("acme", HUNDRED, budget) for _ in range(5)]
    assert [charge is not None for charge in charges] == [True, True, True, False, False]
    assert store.today("acme") == Spend(tokens=300, micro_usd=120)
    assert store.charge("beta", HUNDRED, budget) is not None


def test_a_call_larger_than_the_whole_budget_is_refused_on_an_empty_day(engine: Engine, store: SpendStore) -> None:
    assert store.charge("acme", HUNDRED, Budget(tokens=99)) is None
    assert rows(engine) == []


def test_many_workers_cannot_overdraw_together(store: SpendStore) -> None:
    with ThreadPoolExecutor(8) as workers:
        charges = list(workers.map(lambda _: store.charge("acme", HUNDRED, Budget(tokens=1000)), range(40)))
    assert sum(charge is not None for charge in charges) == 10
    assert store.today("acme").tokens == 1000


def test_a_new_day_has_its_own_budget_and_settles_the_old_day(engine: Engine, store: SpendStore) -> None:
    assert store.charge("acme", HUNDRED, Budget(tokens=100)) is not None
    yesterday = date(2026, 1, 1)
    with transaction(engine) as connection:
        connection.execute(update(pool_spend).values(day=yesterday))
    assert store.charge("acme", HUNDRED, Budget(tokens=100)) is not None
    store.settle(Charge(tenant="acme", day=yesterday, most=HUNDRED), tokens=Tokens(), spend=Spend())
    assert sorted((row.day == yesterday, row.tokens) for row in rows(engine)) == [(False, 100), (True, 0)]


def test_a_tenant_with_a_name_that_postgres_does_not_take(store: SpendStore) -> None:
    charge = store.charge("a\x00b\ud800", HUNDRED, Budget())
    assert charge is not None
    store.settle(charge, tokens=Tokens(), spend=Spend())
    assert store.today("a\x00b\ud800") == Spend()


def pool(server: UnrulyServer, **changes: Any) -> PoolSettings:
    table = {"lynx-70b": {"prompt": 1.0, "cached_prompt": 0.5, "completion": 10.0}}
    wanted = {"url": server.url, "deadline_seconds": 5.0, "max_tokens": 50, "max_attempts": 2, "prices": table}
    return PoolSettings.model_validate(wanted | changes)


def judge_in_turn(settings: PoolSettings, engine: Engine, traces: list[Trace]) -> list[Opinion | CouldNotJudge]:
    async def work() -> list[Opinion | CouldNotJudge]:
        async with AsyncHttpClient(deadline_seconds=settings.deadline_seconds) as client:
            judge = PoolJudge(settings, client, spending=BudgetedSpending(SpendStore(engine), settings))
            said = [await judge.judge(trace) for trace in traces]
            assert judge.endpoints.in_flight == 0
            return said

    return asyncio.run(work())


def test_the_budget_is_a_hard_stop_and_other_tenants_go_on(
    engine: Engine, store: SpendStore, server: UnrulyServer
) -> None:
    # A call is charged with about 1,140 tokens (its bytes) and takes 110: about eight fit.
    settings = pool(server, budget_tokens_per_day=2000, tenant_budgets={"rich": {}, "poor": {"usd": 0.0}})
    acme, rich, poor = (replace(trace("t"), tenant=name) for name in ("acme", "rich", "poor"))
    said = judge_in_turn(settings, engine, [acme] * 12 + [rich] * 8 + [poor])
    stopped = [result for result in said if isinstance(result, CouldNotJudge)]
    assert {result.reason for result in stopped} == {Unjudgeable.BUDGET_EXHAUSTED}
    assert not any(isinstance(result, PassingFailure) for result in stopped)
    assert isinstance(said[0], Opinion)
    assert said[11] in stopped
    assert said[20] in stopped
    assert "2,000 tokens" in said[11].detail
    assert all(isinstance(result, Opinion) for result in said[12:20])
    assert len(server.bodies) == len(said) - len(stopped)
    assert store.today("acme").tokens <= 2000
    assert store.today("rich") == Spend(tokens=880, micro_usd=8 * (100 + 10 * 10))
    assert store.today("poor") == Spend()
    assert said[12].usage.cost_usd == pytest.approx(0.0002)


@pytest.mark.parametrize(
    ("behaviour", "charged"),
    [(status(429, retry_after="0"), False), (status(400, b"I will not"), False), (status(500), True), (hang, True)],
    ids=["429", "400", "500", "hang"],
)
def test_only_what_may_have_been_worked_on_stays_charged(
    engine: Engine, store: SpendStore, server: UnrulyServer, *, behaviour: Any, charged: bool
) -> None:
    server.script = lambda _body, _number: behaviour
    judge_in_turn(pool(server, deadline_seconds=0.3), engine, [trace("t")])
    assert (store.today("city").tokens > 0) is charged


def test_a_server_that_is_not_there_costs_nothing(engine: Engine, store: SpendStore, server: UnrulyServer) -> None:
    server.kill()
    [said] = judge_in_turn(pool(server), engine, [trace("t")])
    assert isinstance(said, PassingFailure)
    assert store.today("city") == Spend()


def test_a_server_that_does_not_count_is_paid_the_estimate(
    engine: Engine, store: SpendStore, server: UnrulyServer
) -> None:
    body = b'{"choices": [{"message": {"content": "{\\"SCORE\\": \\"PASS\\"}"}}]}'
    server.script = lambda _body, _number: status(200, body)
    [said] = judge_in_turn(pool(server), engine, [trace("t")])
    assert isinstance(said, Opinion)
    # What is told is likely, what is charged is the most.
    assert 0 < said.usage.prompt_tokens < store.today("city").tokens / 3
    assert rows(engine)[0].settled == 0


def test_without_a_ledger_nobody_is_asked_and_the_trace_waits(
    engine: Engine, server: UnrulyServer, postgres_server: EmbeddedPostgres
) -> None:
    postgres_server.stop()
    try:
        [said] = judge_in_turn(pool(server), engine, [trace("t")])
    finally:
        postgres_server.start()
    assert isinstance(said, PassingFailure)
    assert said.later is Later.UNCOUNTED
    assert server.bodies == []


def test_what_the_ledger_cannot_count_is_not_spent(engine: Engine, server: UnrulyServer) -> None:
    beyond = {"lynx-70b": {"prompt": 1e18}}
    [said] = judge_in_turn(pool(server, prices=beyond), engine, [trace("t")])
    assert isinstance(said, CouldNotJudge)
    assert said.reason is Unjudgeable.BUDGET_EXHAUSTED
    assert server.bodies == []


def test_retries_are_paid_for_too(engine: Engine, server: UnrulyServer) -> None:
    server.script = lambda _body, number: status(500) if number == 1 else completion()
    [said] = judge_in_turn(pool(server), engine, [trace("t")])
    assert isinstance(said, Opinion)
    [row] = rows(engine)
    assert (row.calls, row.settled) == (2, 1)
    assert row.tokens > 110
