"""The reference: what it learns, when, and what it refuses to learn."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from monitor.drift.baseline import HELD_VERDICTS, LAG_VERDICTS, Baseline
from monitor.drift.seasons import Seasons

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday


def learned(total: int = 1000, hallucinated: float = 100) -> Baseline:
    baseline = Baseline(total)
    baseline.learn(NOON, total, hallucinated)
    return baseline


def test_it_is_learned_once_enough_was_seen() -> None:
    baseline = Baseline(100)
    baseline.learn(NOON, 99, 10)
    assert not baseline.learned
    baseline.learn(NOON, 1, 0)
    assert baseline.learned


def test_the_tested_rates_lie_on_both_sides_of_the_estimate_and_close_in() -> None:
    few, many = learned(300, 30), learned(30_000, 3000)
    for baseline in (few, many):
        tested = baseline.tested()
        assert tested.fall_frozen < tested.fall < baseline.rate < tested.rise < tested.rise_frozen
    assert many.tested().rise - many.rate < (few.tested().rise - few.rate) / 5


@pytest.mark.parametrize(("total", "hallucinated"), [(1, 0), (1, 1), (50, 50), (100_000, 100_000), (100_000, 0)])
def test_the_tested_rates_are_always_strictly_between_0_and_1(total: int, hallucinated: int) -> None:
    assert all(0 < rate < 1 for rate in learned(total, hallucinated).tested())


def test_verdicts_wait_out_the_lag_before_they_are_learned() -> None:
    baseline = learned()
    for _ in range(LAG_VERDICTS):
        assert not baseline.observe(NOON, 1, 1, hold=False)
    assert baseline.total == 1000
    assert baseline.observe(NOON, 1, 1, hold=False) or baseline.observe(NOON, 24, 24, hold=False)
    assert 1000 < baseline.total <= 1025


def test_held_verdicts_are_learned_later_not_dropped() -> None:
    baseline = learned()
    for _ in range(2000):
        assert not baseline.observe(NOON, 1, 1, hold=True)
    assert baseline.observe(NOON, 1, 0, hold=False)
    assert baseline.total >= 1000 + 2000 - LAG_VERDICTS - 25
    assert baseline.hallucinated >= 100 + 2000 - LAG_VERDICTS - 25


def test_no_more_than_the_limit_is_held() -> None:
    baseline = learned()
    for _ in range(HELD_VERDICTS + 1000):
        baseline.observe(NOON, 1, 0, hold=True)
    pending = baseline.state()["pending"]
    assert sum(total for _, _, total, _ in pending) <= HELD_VERDICTS + 25
    assert len(pending) <= HELD_VERDICTS / 25 + 1


def test_a_batch_larger_than_the_lag_waits_for_the_next() -> None:
    baseline = learned()
    assert not baseline.observe(NOON, 5000, 500, hold=False)
    assert not baseline.observe(NOON, 100, 10, hold=False)
    assert baseline.observe(NOON, 400, 40, hold=False)
    assert (baseline.total, baseline.hallucinated) == (6000, 600)


def test_the_frozen_reference_stays_while_the_other_learns() -> None:
    baseline = learned()
    before = baseline.tested()
    for _ in range(40):
        baseline.observe(NOON, 500, 200, hold=False)
    after = baseline.tested()
    assert after.rise > 2 * before.rise
    assert (after.rise_frozen, after.fall_frozen) == (before.rise_frozen, before.fall_frozen)


def test_with_seasons_each_hour_is_compared_with_its_like() -> None:
    baseline = Baseline(2000, Seasons.DAILY)
    for hour in range(25):
        assert not baseline.learned
        when = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(hours=hour)
        baseline.learn(when, 1000, 200 if when.hour < 6 else 50)
    assert baseline.learned
    night, noon = baseline.tested(3), baseline.tested(12)
    assert night.rise > 0.15
    assert noon.rise < 0.08
    assert night.rise_frozen > 2 * noon.rise_frozen
    # Of an hour never seen little is known: it takes much to call it a change.
    unknown = baseline.tested(99)
    assert unknown.rise > night.rise
    assert unknown.fall < noon.fall


def test_a_rhythm_is_noticed_without_seasons_too() -> None:
    flat, swinging = Baseline(100), Baseline(100)
    for hour in range(24):
        when = datetime(2026, 1, 5, hour, tzinfo=UTC)
        flat.learn(when, 1000, 100 + hour % 3)
        swinging.learn(when, 1000, 150 if hour < 12 else 80)
    assert flat.rhythm is not None
    assert flat.rhythm.p_value > 0.5
    assert swinging.rhythm is not None
    assert swinging.rhythm.p_value < 1e-6
    assert (swinging.rhythm.lowest, swinging.rhythm.highest) == (0.08, 0.15)
    assert Baseline(100).rhythm is None


@pytest.mark.parametrize("seasons", list(Seasons))
def test_the_state_round_trips(seasons: Seasons) -> None:
    baseline = Baseline(1000, seasons)
    for index in range(2400):
        when = NOON + timedelta(minutes=5 * index)
        if baseline.learned:
            baseline.observe(when, 1, index % 7 == 0, hold=index % 500 > 400)
        else:
            baseline.learn(when, 1, index % 9 == 0)
    copy = Baseline.from_state(json.loads(json.dumps(baseline.state())))
    assert copy.learned
    for index in range(100):
        when = NOON + timedelta(days=9, hours=index)
        assert copy.observe(when, 10, 1, hold=False) == baseline.observe(when, 10, 1, hold=False)
        assert copy.tested(index % 48) == baseline.tested(index % 48)
    assert copy.state() == baseline.state()
