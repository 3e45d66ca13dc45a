"""The change point, and the memory that it is found in."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from monitor.domain.alert import Direction
from monitor.drift.trail import Trail

START = datetime(2026, 1, 1, tzinfo=UTC)


def trail(labels: list[int]) -> Trail:
    walked = Trail()
    for index, label in enumerate(labels):
        walked.add(START + timedelta(seconds=index), 1, label)
    return walked


def test_a_clean_change_is_found_to_the_verdict() -> None:
    change = trail([0] * 100 + [1] * 10).change(0.05, Direction.RISE)
    assert (change.at, change.total, change.hallucinated) == (START + timedelta(seconds=100), 10, 10)


def test_a_change_long_ago_is_found_to_a_few_hundredths_of_its_age() -> None:
    rng = random.Random(1)
    labels = [int(rng.random() < 0.05) for _ in range(20_000)] + [int(rng.random() < 0.15) for _ in range(4000)]
    change = trail(labels).change(0.05, Direction.RISE)
    assert abs((change.at - START).total_seconds() - 20_000) <= 300


def test_no_verdict_is_lost_by_coarsening() -> None:
    walked = trail([1, 0, 0, 0] * 5000)
    blocks = [block for level in reversed(walked.state()) for block in level]
    assert len(blocks) <= 32 * 11
    assert sum(block[1] for block in blocks) == 20_000
    assert sum(block[2] for block in blocks) == 5000
    assert blocks[0][0] == START.isoformat()
    assert [block[0] for block in blocks] == sorted(block[0] for block in blocks)


def test_an_empty_trail_has_no_change_point() -> None:
    with pytest.raises(ValueError, match="empty"):
        Trail().change(0.1, Direction.RISE)
