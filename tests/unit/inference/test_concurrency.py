from monitor.inference.concurrency import AdaptiveLimit


def test_it_starts_at_most_and_never_leaves_its_range() -> None:
    limit = AdaptiveLimit(most=8)
    assert limit.permits == 8
    for _ in range(50):
        limit.succeeded(in_flight=8)
    assert limit.permits == 8
    for second in range(50):
        limit.overloaded(began=second + 0.5, now=second + 1.0)
    assert limit.permits == 1


def test_a_round_trip_halves_it_once() -> None:
    limit = AdaptiveLimit(most=16)
    for _ in range(16):
        limit.overloaded(began=0.0, now=1.0)
    assert limit.permits == 8
    limit.overloaded(began=1.0, now=1.5)  # began before the crowd was known
    assert limit.permits == 8
    limit.overloaded(began=1.1, now=2.0)
    assert limit.permits == 4


def test_a_round_trip_of_good_answers_adds_one() -> None:
    limit = AdaptiveLimit(most=16)
    limit.overloaded(began=0.0, now=1.0)
    limit.overloaded(began=2.0, now=3.0)
    assert limit.permits == 4
    for _ in range(5):  # each adds a little less than a quarter
        limit.succeeded(in_flight=4)
    assert limit.permits == 5


def test_lone_calls_do_not_raise_a_limit_that_they_do_not_try() -> None:
    limit = AdaptiveLimit(most=16)
    limit.overloaded(began=0.0, now=1.0)
    for _ in range(100):
        limit.succeeded(in_flight=1)
    assert limit.permits == 8


def test_it_recovers_from_one() -> None:
    limit = AdaptiveLimit(most=2)
    limit.overloaded(began=0.0, now=1.0)
    assert limit.permits == 1
    limit.succeeded(in_flight=1)
    assert limit.permits == 2
