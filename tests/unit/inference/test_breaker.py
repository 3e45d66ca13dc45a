from monitor.inference.breaker import CircuitBreaker


def opened(at=10.0):
    breaker = CircuitBreaker(failures=3, reset_seconds=30.0)
    for _ in range(3):
        breaker.failed(at)
    return breaker


def test_it_opens_after_consecutive_failures_only():
    breaker = CircuitBreaker(failures=3, reset_seconds=30.0)
    for _ in range(10):
        breaker.failed(1.0)
        breaker.failed(1.0)
        breaker.succeeded()
    assert breaker.allows(1.0)
    assert not breaker.is_open
    breaker.failed(1.0)
    breaker.failed(1.0)
    assert breaker.allows(1.0)
    breaker.failed(1.0)
    assert not breaker.allows(1.0)
    assert breaker.is_open


def test_one_call_a_period_is_let_through():
    breaker = opened(at=10.0)
    assert not breaker.allows(39.9)
    assert breaker.allows(40.0)
    assert not breaker.allows(40.0)
    assert not breaker.allows(69.9)
    assert breaker.allows(70.0)


def test_a_try_that_fails_waits_a_whole_period_more():
    breaker = opened(at=10.0)
    assert breaker.allows(40.0)
    breaker.failed(55.0)
    assert not breaker.allows(84.9)
    assert breaker.allows(85.0)


def test_a_try_that_succeeds_closes_it_and_forgets_the_failures():
    breaker = opened()
    assert breaker.allows(40.0)
    breaker.succeeded()
    assert breaker.allows(40.0)
    breaker.failed(41.0)
    breaker.failed(41.0)
    assert breaker.allows(41.0)


def test_looking_takes_no_chance():
    breaker = opened(at=10.0)
    assert not breaker.would_allow(39.9)
    assert breaker.would_allow(40.0)
    assert breaker.would_allow(40.0)
    assert breaker.allows(40.0)
    assert not breaker.would_allow(40.0)
