"""Several real servers behind one judge: who is asked, what is asked twice, and what each bears."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from monitor.config import PoolSettings
from monitor.domain.judgement import CouldNotJudge, Opinion, Unjudgeable
from monitor.inference.pool import PoolJudge
from monitor.inference.pool_call import Attempt, CallOutcome, PoolCall
from monitor.outbound import AsyncHttpClient
from tests.examples.assessments import trace
from tests.support.unruly_server import Behaviour, UnrulyServer, completion, hang, status


@pytest.fixture
def servers() -> Iterator[list[UnrulyServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(UnrulyServer.serving()) for _ in range(2)]


def settings(servers: list[UnrulyServer], **changes: Any) -> PoolSettings:
    first, *others = [server.url for server in servers]
    wanted = {"url": first, "urls": others, "deadline_seconds": 10.0, "max_attempts": 2}
    return PoolSettings.model_validate(wanted | changes)


class Run:
    """Judges the trace so many times, so many at once, and keeps every call and outcome."""

    def __init__(self, wanted: PoolSettings, count: int, *, at_once: int = 1, seed: int = 1) -> None:
        self.calls: list[PoolCall] = []
        self.said: list[Opinion | CouldNotJudge] = []
        asyncio.run(self._judge(wanted, count, at_once, seed))

    async def _judge(self, wanted: PoolSettings, count: int, at_once: int, seed: int) -> None:
        async with AsyncHttpClient(deadline_seconds=wanted.deadline_seconds) as client:
            self.judge = PoolJudge(wanted, client, choice=random.Random(seed), observe=self.calls.append)
            for _ in range(0, count, at_once):
                self.said += await asyncio.gather(*(self.judge.judge(trace("t")) for _ in range(at_once)))
            assert self.judge.endpoints.in_flight == 0

    def count(self, attempt: Attempt, outcome: CallOutcome | None = None) -> int:
        return sum(call.attempt is attempt and outcome in (None, call.outcome) for call in self.calls)

    def all_judged(self) -> bool:
        return all(isinstance(result, Opinion) for result in self.said)


def slow(seconds: float, then: Behaviour | None = None) -> Behaviour:
    async def behave(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await (then or completion())(writer)

    return behave


def test_equal_servers_share_the_work(servers: list[UnrulyServer]) -> None:
    run = Run(settings(servers), 40, at_once=4)
    assert run.all_judged()
    assert all(len(server.bodies) >= 5 for server in servers)


def test_one_that_is_down_costs_a_retry_and_then_nothing(servers: list[UnrulyServer]) -> None:
    servers[0].kill()
    run = Run(settings(servers, breaker_failures=1, breaker_reset_seconds=600.0), 30)
    assert run.all_judged()
    assert run.count(Attempt.RETRY) <= 1
    assert not run.judge.is_open
    assert run.judge.capacity == 8  # the other one's


def test_one_that_wants_a_pause_is_left_alone_without_waiting(servers: list[UnrulyServer]) -> None:
    servers[0].script = lambda _body, _number: status(429, retry_after="25")
    began = time.monotonic()
    run = Run(settings(servers), 20)
    assert run.all_judged()
    assert len(servers[0].bodies) == 1
    # A guard against a hang, not a measurement: waiting as told would have taken the 25 seconds.
    assert time.monotonic() - began < 20


def test_a_wrong_key_at_one_is_asked_at_the_other(servers: list[UnrulyServer]) -> None:
    servers[0].script = lambda _body, _number: status(401)
    run = Run(settings(servers), 10)
    assert run.all_judged()
    assert len(servers[0].bodies) <= 1


def test_each_server_is_asked_in_the_form_that_it_takes(servers: list[UnrulyServer]) -> None:
    def text_only(body: dict[str, Any], _number: int) -> Behaviour:
        return status(400, b"response_format is not supported") if "response_format" in body else completion()

    servers[0].script = text_only
    run = Run(settings(servers), 20)
    assert run.all_judged()
    assert "response_format" not in servers[0].bodies[-1]
    assert "response_format" in servers[1].bodies[-1]


def test_a_call_past_the_95th_percentile_is_made_again_elsewhere(servers: list[UnrulyServer]) -> None:
    # Enough quick answers, then one server hangs for ever: only second calls end before the deadline.
    ill, well = servers
    well.script = lambda _body, _number: slow(0.01)
    ill.script = lambda _body, _number: slow(0.01) if len(ill.bodies + well.bodies) <= 40 else hang
    # Two at once: the second of them goes to the server that has none.
    run = Run(settings(servers, deadline_seconds=60.0, hedge_share=1.0), 60, at_once=2)
    assert run.all_judged()
    assert run.count(Attempt.HEDGE, CallOutcome.ANSWERED) >= 1
    assert run.count(Attempt.FIRST, CallOutcome.CANCELLED) >= 1
    assert run.count(Attempt.RETRY) == 0


def test_second_calls_stay_within_their_share(servers: list[UnrulyServer]) -> None:
    draws = random.Random(7)
    for server in servers:
        server.script = lambda _body, _number: slow(draws.uniform(0.0, 0.02))
    run = Run(settings(servers, hedge_share=0.1), 120, at_once=2)
    assert run.all_judged()
    assert 1 <= run.count(Attempt.HEDGE) <= 12


@pytest.mark.parametrize(("hedge", "second"), [("auto", False), ("never", False), ("always", True)])
def test_one_server_is_asked_twice_only_where_that_is_wanted(
    servers: list[UnrulyServer], *, hedge: str, second: bool
) -> None:
    one = servers[:1]
    # The 40th hangs for as long as nobody asks a second time; without hedging that ends at the deadline.
    one[0].script = lambda _body, number: hang if number == 40 else slow(0.01)
    run = Run(settings(one, hedge=hedge, hedge_share=1.0, deadline_seconds=5.0), 42)
    assert run.all_judged()
    assert (run.count(Attempt.HEDGE) > 0) is second
    assert (run.count(Attempt.RETRY) > 0) is not second


def test_a_second_call_that_fails_does_not_spoil_the_first(servers: list[UnrulyServer]) -> None:
    slow_one, broken = servers

    def after_warm_up(otherwise: Behaviour) -> Callable[[dict[str, Any], int], Behaviour]:
        return lambda _body, _number: slow(0.01) if len(slow_one.bodies + broken.bodies) <= 30 else otherwise

    slow_one.script = after_warm_up(slow(0.5))
    broken.script = after_warm_up(status(500))
    run = Run(settings(servers, breaker_failures=100, hedge_share=1.0), 40)
    assert run.all_judged()
    assert run.count(Attempt.HEDGE) > 0


def test_a_busy_server_is_given_fewer_calls_and_more_again(servers: list[UnrulyServer]) -> None:
    one = servers[:1]
    one[0].script = lambda _body, number: status(429, retry_after="0") if 9 <= number <= 24 else slow(0.01)
    run = Run(settings(one, concurrency=8, max_attempts=10), 200, at_once=8)
    assert run.all_judged()
    permits = [call.permits for call in run.calls]
    assert permits[0] == 8
    assert min(permits) <= 2
    assert permits[-1] == 8
    assert run.count(Attempt.FIRST) + run.count(Attempt.RETRY) == len(one[0].bodies)


def test_a_trace_that_waits_too_long_for_a_slot_goes_back_uncounted(servers: list[UnrulyServer]) -> None:
    one = servers[:1]
    one[0].script = lambda _body, _number: slow(0.4)
    # One slot: the third of three would have to wait for two others.
    run = Run(settings(one, concurrency=1, deadline_seconds=0.6, max_attempts=1), 3, at_once=3)
    reasons = [result.reason for result in run.said if isinstance(result, CouldNotJudge)]
    assert reasons == [Unjudgeable.JUDGE_UNAVAILABLE]
    assert len(one[0].bodies) == 2


def test_tenants_caches_are_kept_apart_by_salt(servers: list[UnrulyServer]) -> None:
    run = Run(settings(servers[:1], cache_salt="s3cret"), 2)
    assert run.all_judged()
    first, second = [body["cache_salt"] for body in servers[0].bodies]
    assert first == second
    assert "s3cret" not in first
