"""Cross-validation: which rows are held out together, and when one model is clearly better than another."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FOLDS = 5
MOST_GROUPS_APART = 10
"""With more groups than this, several are held out together."""


def folds(labels: Sequence[bool] | Mask, groups: Sequence[str] | None = None) -> list[Mask]:
    """Masks of the held-out rows, one a fold.

    With groups (data sets), whole groups are held out: what is chosen then is what carries over to data of another
    kind. Without, or where a fold would leave only one label to fit on, each fold is every `FOLDS`-th row.

    Args:
        labels: one a row.
        groups: one name a row, or None.
    """
    positive = np.asarray(labels, dtype=bool)
    if groups is not None:
        grouped = _grouped(groups)
        if len(grouped) > 1 and all(0 < positive[~held].sum() < (~held).sum() for held in grouped):
            return grouped
    position = np.arange(len(positive)) % FOLDS
    return [position == fold for fold in range(FOLDS)]


def _grouped(groups: Sequence[str]) -> list[Mask]:
    sizes = Counter(groups)
    count = len(sizes) if len(sizes) <= MOST_GROUPS_APART else FOLDS
    loads, home = [0] * count, {}
    # Largest first, each to the fold that has least: the folds come out about equal.
    for name, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        home[name] = int(np.argmin(loads))
        loads[home[name]] += size
    places = np.array([home[name] for name in groups])
    return [places == fold for fold in range(count)]


def clearly_lower(losses: Floats, reference: Floats) -> bool:
    """Whether the mean loss is lower by more than one standard error of the paired difference."""
    gain = reference - losses
    return float(gain.mean()) > float(gain.std(ddof=1)) / math.sqrt(len(gain))
