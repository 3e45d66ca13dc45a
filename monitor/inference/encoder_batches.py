"""Batches by length: inputs of like length together, so that little of a batch is padding."""

from collections.abc import Iterator, Sequence

MOST_PADDED = 1.25
"""Tokens of a batch, padding included, may be this many times its real ones: at most a fifth is padding."""


def batches(lengths: Sequence[int], *, most_tokens: int, alone: bool = False) -> Iterator[list[int]]:
    """Yield groups of places in `lengths`, longest inputs first; each place occurs once.

    Args:
        lengths: tokens of each input, at least 1.
        most_tokens: rows times longest row of a batch may not exceed it, but for an input that is longer by itself.
        alone: one input a batch, for models in which inputs of one batch change one another's scores.
    """
    group: list[int] = []
    real = 0
    for place in sorted(range(len(lengths)), key=lambda one: (-lengths[one], one)):
        padded = lengths[group[0]] * (len(group) + 1) if group else 0
        full = padded > most_tokens or padded > MOST_PADDED * (real + lengths[place])
        if group and (alone or full):
            yield group
            group, real = [], 0
        group.append(place)
        real += lengths[place]
    if group:
        yield group
