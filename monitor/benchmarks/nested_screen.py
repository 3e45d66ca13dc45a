"""Screens that have never seen what they are asked about, nor what they are compared on.

A fusion is judged on a data set that it was fitted without. Its screen must be, too, and not only there: were the
scores that the fusion is *fitted* to a screen's own training rows, they would look better than any unseen row's, and
the fusion would trust the screen too much. So, with family F left out, each other family G is scored by a screen that
was trained without F and without G (nested cross-validation; Varma and Simon 2006).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from monitor.domain.errors import InvalidInput
from monitor.training.compose import compose
from monitor.training.logistic import Logistic
from monitor.training.rows import Row
from monitor.training.screen import COMPOSED_PER_FILE, Table, by_file, fit, measure, training_rows

Families = frozenset[str]


class NestedScreens:
    """A screen for every family left out, and for every two.

    Args:
        train_on: labelled rows, of all families. Those kept for calibration are not trained on, and no row is
            whose context a family that is left out has, too: it would tell on it.
        rows: what is to be scored.
        tick: called after each of the `steps`.

    Raises:
        InvalidInput: there are too few rows to train on.
    """

    def __init__(self, train_on: Sequence[Row], rows: Sequence[Row], tick: Callable[[], None] = lambda: None) -> None:
        self._rows = rows
        self._features = [_features(row) for row in rows]
        sharing = _families_by_context(train_on)
        usable = by_file(training_rows(train_on, held_out=(), held_out_ids=frozenset()))
        # Features are what takes the time: each file is measured once, the fits are quick.
        files = [_measured(file, own, sharing, tick) for file, own in sorted(usable.items())]
        self._screens = {families: _fitted(files, families) for families in _left_out(rows)}

    def scores(self, left_out: str) -> list[float | None]:
        """With this family left out: one score a row, by a screen that saw neither the family nor the row's own."""
        return [
            None if features is None else float(self._screens[frozenset({left_out, row.family})].score(features)[0])
            for row, features in zip(self._rows, self._features, strict=True)
        ]


def steps(train_on: Sequence[Row]) -> int:
    """How often `NestedScreens` ticks at most: once a file."""
    return len(by_file(train_on))


def _left_out(rows: Sequence[Row]) -> list[Families]:
    names = sorted({row.family for row in rows})
    return [frozenset(pair) for size in (1, 2) for pair in combinations(names, size)]


def _families_by_context(rows: Sequence[Row]) -> Mapping[str, Families]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row.group].add(row.family)
    return {group: frozenset(families) for group, families in found.items()}


@dataclass(frozen=True, slots=True)
class _File:
    """One file's rows, measured.

    Attributes:
        own: by the families that have their contexts.
        composed: long rows made of all of them.
        composed_unshared: made of those whose contexts no other family has, for when one that does is left out.
    """

    family: str
    own: Mapping[Families, Table]
    composed: Table
    composed_unshared: Table

    def parts(self, families: Families) -> list[Table]:
        """What may be trained on without these families."""
        allowed = [table for sharing, table in self.own.items() if sharing.isdisjoint(families)]
        if self.family in families or not allowed:
            return []
        features = np.concatenate([table.features for table in allowed])
        own = Table(features, np.concatenate([table.labels for table in allowed]))
        return [own, self.composed if len(allowed) == len(self.own) else self.composed_unshared]


def _measured(file: str, own: Sequence[Row], sharing: Mapping[str, Families], tick: Callable[[], None]) -> _File:
    by_sharing: dict[Families, list[Row]] = defaultdict(list)
    for row in own:
        by_sharing[sharing[row.group]].append(row)
    family = own[0].family
    unshared = by_sharing[frozenset({family})]
    try:
        composed = measure(compose(own, COMPOSED_PER_FILE, seed=file))
        found = _File(
            family,
            {families: measure(rows) for families, rows in by_sharing.items()},
            composed,
            composed if len(by_sharing) == 1 else measure(compose(unshared, COMPOSED_PER_FILE, seed=file)),
        )
    except ValueError as error:
        raise InvalidInput(f"{file}: too few rows to train a screen on: {error}") from None
    tick()
    return found


def _fitted(files: Sequence[_File], families: Families) -> Logistic:
    parts = [part for file in files for part in file.parts(families)]
    if not parts:
        raise InvalidInput(f"no rows to train a screen on without {' and '.join(sorted(families))}")
    return fit(parts)


def _features(row: Row) -> NDArray[np.float32] | None:
    try:
        return measure([row]).features
    except ValueError:
        # An answer without a word: no screen judges it.
        return None
