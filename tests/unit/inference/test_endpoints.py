"""Which server gets a call, and that slots come back."""

import asyncio
import random
from collections import Counter

import pytest

from monitor.inference.breaker import CircuitBreaker
from monitor.inference.concurrency import AdaptiveLimit
from monitor.inference.endpoints import CircuitOpen, Endpoint, Endpoints, FadingMean
from monitor.inference.pool_protocol import Asking


def endpoint(name="a", most=4):
    breaker = CircuitBreaker(failures=2, reset_seconds=30.0)
    return Endpoint(
        f"http://user:word@{name}:8000/v1/", asking=Asking(), breaker=breaker, limit=AdaptiveLimit(most=most)
    )


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def endpoints(*servers, clock=None, seed=1):
    return Endpoints(servers, stopwatch=clock or Clock(), choice=random.Random(seed))


def test_a_server_is_named_without_its_password():
    server = endpoint()
    assert (server.name, server.url) == ("a:8000", "http://user:word@a:8000/v1/chat/completions")


def test_a_fading_mean_follows_and_forgets():
    mean = FadingMean(memory_seconds=10.0)
    assert mean.at(5.0) == 0.0
    mean.add(4.0, 10.0)
    assert mean.at(10.0) == 4.0
    mean.add(2.0, 10.0)
    assert mean.at(10.0) == 3.0
    assert mean.at(20.0) == pytest.approx(3.0 / 2.71828, rel=1e-5)


def drawn(pool, count=2000):
    taken = Counter()
    for _ in range(count):
        slot = pool.take_now()
        taken[slot.endpoint.name[0]] += 1
        slot.release()
    return taken


def test_equal_servers_share_equally():
    taken = drawn(endpoints(endpoint("a"), endpoint("b"), endpoint("c"), endpoint("d")))
    assert all(count > 0 for count in taken.values())
    assert len(taken) == 4


def test_a_slow_or_failing_server_is_asked_less_until_it_is_forgotten():
    clock = Clock()
    servers = [endpoint(name) for name in "abc"]
    for server in servers:
        server.answered(1.0 if server.name == "c:8000" else 0.1, 0.0)
    pool = endpoints(*servers, clock=clock)
    taken = drawn(pool)
    assert taken["c"] == 0  # it loses every comparison
    servers[0].failed(0.0)
    assert drawn(pool)["a"] < drawn(pool)["b"]
    clock.now = 600.0
    servers[1].answered(0.5, 600.0)
    assert drawn(pool)["c"] > 0


def test_the_busier_of_two_equal_servers_waits():
    first, second = endpoint("a"), endpoint("b")
    pool = endpoints(first, second)
    slots = [pool.take_now() for _ in range(8)]
    assert all(slots)
    assert (first.in_flight, second.in_flight) == (4, 4)
    assert pool.take_now() is None
    slots[0].release()
    slots[0].release()
    assert pool.in_flight == 7


def test_servers_to_avoid_are_the_last_resort():
    first, second = endpoint("a", most=1), endpoint("b", most=1)
    pool = endpoints(first, second)

    async def work():
        return [(await pool.take(avoid={first})).endpoint for _ in range(2)]

    assert asyncio.run(work()) == [second, first]
    assert pool.take_now(avoid={first}) is None


def test_a_resting_server_is_asked_only_where_no_other_is():
    clock = Clock()
    first, second = endpoint("a"), endpoint("b", most=1)
    first.rests_until = 10.0
    pool = endpoints(first, second, clock=clock)
    assert pool.other_than(first)
    assert not pool.other_than(second)
    assert [pool.take_now().endpoint for _ in range(2)] == [second, first]


def test_an_open_circuit_gets_one_call_when_it_is_due():
    clock = Clock()
    well, ill = endpoint("a"), endpoint("b")
    pool = endpoints(well, ill, clock=clock)
    ill.breaker.failed(0.0)
    ill.breaker.failed(0.0)
    assert not pool.is_open
    assert pool.capacity == 4
    assert drawn(pool, 50)["b"] == 0
    clock.now = 30.0
    assert drawn(pool, 50)["b"] == 1
    ill.breaker.succeeded()
    assert pool.capacity == 8


def test_with_every_circuit_open_nobody_waits():
    server = endpoint()
    pool = endpoints(server)
    server.breaker.failed(0.0)
    server.breaker.failed(0.0)
    with pytest.raises(CircuitOpen):
        asyncio.run(pool.take())
    assert (pool.is_open, pool.capacity) == (True, 1)


def test_who_waits_gets_the_next_slot_and_who_is_cancelled_takes_none():
    server = endpoint(most=1)
    pool = endpoints(server)

    async def work():
        held = await pool.take()
        waiting = [asyncio.create_task(pool.take()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        held.release()
        # Cancelled in the very moment in which it could have had it.
        waiting[0].cancel()
        second = await waiting[1]
        assert server.in_flight == 1
        second.release()
        (await waiting[2]).release()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]

    asyncio.run(work())
    assert pool.in_flight == 0


def test_who_waits_hears_that_the_circuit_opened():
    server = endpoint(most=1)
    pool = endpoints(server)

    async def work():
        held = await pool.take()
        waiting = asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        server.breaker.failed(0.0)
        server.breaker.failed(0.0)
        held.release()
        with pytest.raises(CircuitOpen):
            await waiting

    asyncio.run(work())


def test_a_slot_is_released_by_leaving_it():
    pool = endpoints(endpoint())
    with pool.take_now() as slot:
        assert slot.endpoint.in_flight == 1
    assert pool.in_flight == 0
