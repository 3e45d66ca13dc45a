import random

import pytest

from monitor.inference.encoder_batches import MOST_PADDED, batches


@pytest.mark.parametrize("seed", range(5))
def test_batches_hold_each_input_once_with_little_padding(seed) -> None:
    choice = random.Random(seed)
    lengths = [choice.randint(1, 512) for _ in range(300)]
    made = list(batches(lengths, most_tokens=4096))
    assert sorted(place for group in made for place in group) == list(range(300))
    for group in made:
        padded = max(lengths[place] for place in group) * len(group)
        assert padded <= 4096
        assert padded <= MOST_PADDED * sum(lengths[place] for place in group)
    assert len(made) < 60


def test_an_input_longer_than_a_batch_is_a_batch_of_its_own() -> None:
    assert list(batches([5, 900, 5], most_tokens=100)) == [[1], [0, 2]]


def test_alone_means_alone() -> None:
    assert list(batches([3, 3, 3], most_tokens=100, alone=True)) == [[0], [1], [2]]


def test_nothing_makes_no_batch() -> None:
    assert list(batches([], most_tokens=100)) == []
