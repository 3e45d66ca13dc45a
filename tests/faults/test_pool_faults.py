"""A pool server that fails in every way, a real queue in Postgres: retries are bounded, circuits open and close, every
slot comes back, and every escalation ends accounted for."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, select

from monitor.config import PoolSettings, PostgresSettings, Settings
from monitor.domain.judgement import CouldNotJudge, Judgement, Unjudgeable
from monitor.domain.trace import Segment
from monitor.domain.verdict import Verdict
from monitor.inference.pool import PoolJudge
from monitor.inference.pool_call import CallOutcome, PoolCall
from monitor.inference.pool_protocol import most_reply_bytes
from monitor.outbound import AsyncHttpClient
from monitor.services import pool as pool_service
from monitor.services.pool import MAX_ATTEMPTS, PoolService, Revised
from monitor.services.spending import BudgetedSpending
from monitor.storage.accounting import accounting
from monitor.storage.engine import transaction
from monitor.storage.escalations import EscalationQueue
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.spend import SpendStore
from monitor.storage.tables import escalations, pool_spend
from tests.examples.assessments import NOON, POOL, assessment, verdict
from tests.support.unruly_server import UnrulyServer, completion, cut, drip, hang, noise, status

DEADLINE = 90.0
CONCURRENCY = 4


@pytest.fixture
def settings(postgres_url: str) -> Settings:
    return Settings.model_validate({"postgres": PostgresSettings(url=SecretStr(postgres_url))})


@pytest.fixture
def server() -> Iterator[UnrulyServer]:
    with UnrulyServer.serving() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_service, "FIRST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(pool_service, "POLL_SECONDS", 0.05)


def fuse(judgements: Sequence[Judgement], _segment: Segment) -> Verdict | CouldNotJudge:
    probability = judgements[-1].probability
    assert probability is not None
    return verdict(probability, by=POOL)


class Line:
    """The pool worker's parts, put together as the worker does, on one unruly server."""

    def __init__(self, engine: Engine, server: UnrulyServer, **changes: object) -> None:
        self.engine = engine
        self.server = server
        self.settings = PoolSettings.model_validate(
            {
                "url": server.url,
                "deadline_seconds": 0.5,
                "concurrency": CONCURRENCY,
                "breaker_failures": 3,
                "breaker_reset_seconds": 0.1,
                "max_attempts": 2,
                "max_tokens": 16,
                **changes,
            }
        )
        self.calls: list[PoolCall] = []
        self.seen: list[Revised] = []

    def work(self, until: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
        """Judge until `until`; afterwards no slot is held, and every trace has one place in the accounting."""
        asyncio.run(self._work(until, meanwhile))
        found = accounting(self.engine)
        assert found.accepted == found.verdicts + found.unjudged + found.in_flight
        assert found.in_flight == found.pending
        assert recount(self.engine) == []
        # However it went, no claim makes more calls than it may, the one for another form included.
        assert len(self.server.bodies) <= sum(row.claims for row in self.rows()) * (self.settings.max_attempts + 1)

    async def _work(self, until: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
        stop = asyncio.Event()
        limit = most_reply_bytes(self.settings)
        async with AsyncHttpClient(deadline_seconds=self.settings.deadline_seconds, max_answer_bytes=limit) as client:
            spending = BudgetedSpending(SpendStore(self.engine), self.settings)
            self.judge = PoolJudge(self.settings, client, spending=spending, observe=self.calls.append)
            service = PoolService(
                queue=EscalationQueue(self.engine),
                judge=self.judge,
                settings=self.settings,
                calibrate=lambda _version, _score, _segment: 0.9,
                fuse=fuse,
                clock=lambda: NOON,
                observe=self.seen.append,
                report_waiting=lambda _count: None,
            )
            task = asyncio.create_task(service.run(stop))
            try:
                await asyncio.to_thread(meanwhile)
                async with asyncio.timeout(DEADLINE):
                    while not until() and not task.done():  # noqa: ASYNC110 - it lies in Postgres, which sets no event
                        await asyncio.sleep(0.02)
            finally:
                stop.set()
                await asyncio.wait_for(task, DEADLINE)
            assert self.judge.endpoints.in_flight == 0
            slots = [self.judge.endpoints.take_now() for _ in range(self.judge.capacity)]
            assert self.judge.is_open or all(slots)

    def rows(self) -> list[Any]:
        with transaction(self.engine) as connection:
            return list(connection.execute(select(escalations).order_by(escalations.c.id)).all())

    def states(self) -> list[str]:
        return [row.state for row in self.rows()]

    def outcomes(self) -> set[CallOutcome]:
        return {call.outcome for call in self.calls}

    @property
    def opened(self) -> bool:
        return any(call.circuit_open for call in self.calls)


def record(engine: Engine, count: int) -> None:
    """Every other trace has no verdict of its own yet."""
    Ledger(engine).record([assessment(n, escalated=True, probability=None if n % 2 else 0.25) for n in range(count)])


def test_a_server_that_is_busy_for_a_while_is_asked_less_and_judges_all(engine: Engine, server: UnrulyServer) -> None:
    record(engine, 12)
    server.script = lambda _body, number: status(429, retry_after="0") if number <= 20 else completion()
    line = Line(engine, server)
    line.work(lambda: len(line.seen) == 12)
    assert line.states() == ["done"] * 12
    assert not line.opened
    assert min(call.permits for call in line.calls) == 1
    assert {row.attempts for row in line.rows()} == {1}
    assert accounting(engine).verdicts == 12


def test_a_server_that_is_unavailable_opens_the_circuit_and_its_return_closes_it(
    engine: Engine, server: UnrulyServer
) -> None:
    record(engine, 8)
    server.script = lambda _body, number: status(503) if number <= 12 else completion()
    line = Line(engine, server)
    line.work(lambda: len(line.seen) == 8)
    assert line.states() == ["done"] * 8
    assert line.opened
    assert not line.judge.is_open


@pytest.mark.parametrize(
    "behaviour", [hang, drip, cut, noise, status(500)], ids=["hang", "drip", "cut", "noise", "500"]
)
def test_a_server_that_fails_on_every_trace_ends_each_of_them(
    engine: Engine, server: UnrulyServer, behaviour: object
) -> None:
    record(engine, 2)
    server.script = lambda _body, _number: behaviour
    line = Line(engine, server, deadline_seconds=0.2, max_attempts=1)
    line.work(lambda: len(line.seen) == 2)
    assert line.states() == ["given_up"] * 2
    assert {row.attempts for row in line.rows()} == {MAX_ATTEMPTS}
    assert line.opened
    found = accounting(engine)
    assert (found.verdicts, found.unjudged, found.pending) == (1, 1, 0)
    # Nobody saw what these calls took: they stay charged.
    with transaction(engine) as connection:
        spent = connection.execute(select(pool_spend)).one()
    assert spent.settled == 0
    assert spent.tokens > 0


def test_garbage_with_a_200_is_no_verdict_and_is_not_asked_for_twice(engine: Engine, server: UnrulyServer) -> None:
    record(engine, 4)
    server.script = lambda _body, number: status(200, b"<html>" if number % 2 else b'{"choices": 7}')
    line = Line(engine, server)
    line.work(lambda: len(line.seen) == 4)
    assert line.states() == ["done"] * 4
    assert len(server.bodies) == 4
    reasons = {revised.judgement.result.reason for revised in line.seen if revised.judgement}
    assert reasons == {Unjudgeable.UNPARSEABLE}
    found = accounting(engine)
    assert (found.verdicts, found.unjudged) == (2, 2)


def test_connections_that_break_off_for_a_while_cost_tries_and_no_verdict(engine: Engine, server: UnrulyServer) -> None:
    record(engine, 6)
    server.script = lambda _body, number: cut if number <= 6 else completion()
    line = Line(engine, server)
    line.work(lambda: len(line.seen) == 6)
    assert line.states() == ["done"] * 6
    assert CallOutcome.UNREACHED in line.outcomes()


def test_a_reply_without_end_is_dropped_at_the_limit(engine: Engine, server: UnrulyServer) -> None:
    record(engine, 1)
    server.script = lambda _body, number: server.flood if number == 1 else completion()
    line = Line(engine, server, deadline_seconds=20.0)
    line.work(lambda: len(line.seen) == 1)
    assert line.states() == ["done"]
    limit = most_reply_bytes(line.settings)
    # What the sockets' buffers hold was sent too; it never came in.
    assert limit <= server.sent_bytes + 0x10000
    assert server.sent_bytes <= limit + 16 * 2**20


def test_a_server_killed_with_calls_under_way_and_started_again_judges_all(
    engine: Engine, server: UnrulyServer
) -> None:
    record(engine, 8)
    server.script = lambda _body, _number: hang
    line = Line(engine, server, deadline_seconds=20.0)

    def wait_for(condition: Callable[[], bool]) -> None:
        ends = time.monotonic() + DEADLINE
        while not condition() and time.monotonic() < ends:
            time.sleep(0.02)
        assert condition()

    def kill_and_restart() -> None:
        wait_for(lambda: len(server.bodies) >= CONCURRENCY)
        server.kill()
        wait_for(lambda: line.opened)
        server.script = lambda _body, _number: completion()
        server.start()

    line.work(lambda: len(line.seen) == 8, kill_and_restart)
    assert line.states() == ["done"] * 8
    assert not line.judge.is_open
    # Killed once: once the fault may have been the trace's. That nobody listened afterwards was not.
    assert max(row.attempts for row in line.rows()) <= 3


def test_a_worker_stopped_while_the_server_hangs_gives_all_back(
    engine: Engine, server: UnrulyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_service, "STOP_SECONDS", 0.1)
    record(engine, 6)
    server.script = lambda _body, _number: hang
    line = Line(engine, server, deadline_seconds=60.0)
    line.work(lambda: len(server.bodies) == CONCURRENCY)
    assert line.states() == ["waiting"] * 6
    assert {row.attempts for row in line.rows()} == {0}
    assert accounting(engine).pending == 3
