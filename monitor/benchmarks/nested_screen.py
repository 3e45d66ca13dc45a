"""Screens that have never seen what they are asked about, nor what they are compared on.

A fusion is judged on data sets that it was fitted without. Its screen must be, too, and not only there: were the
scores that the fusion is *fitted* to a screen's own training rows, they would look better than any unseen row's, and
the fusion would trust the screen too much. So, with collection F left out, each other collection G is scored by a
screen that was trained without F and without G (nested cross-validation; Varma and Simon 2006).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from monitor.benchmarks.labelled import collections
from monitor.domain.errors import InvalidInput
from monitor.training.compose import compose
from monitor.training.logistic import Logistic
from monitor.training.rows import Row
from monitor.training.screen import COMPOSED_PER_FILE, Table, by_file, fit, measure, training_rows

Collections = frozenset[str]


class NestedScreens:
    """A screen for every collection (`labelled.collections`) left out, and for every two.

    Args:
        train_on: labelled rows, of all collections. Those kept for calibration are not trained on, and no row is
            whose context a collection that is left out has, too: it would tell on it.
        rows: what is to be scored.
        tick: called after each of the `steps`.

    Raises:
        InvalidInput: there are too few rows to train on.
    """

    def __init__(self, train_on: Sequence[Row], rows: Sequence[Row], tick: Callable[[], None] = lambda: None) -> None:
        self._rows = rows
        self._features = [_features(row) for row in rows]
        self._collection = collections([*train_on, *rows])
        sharing = _by_context(train_on, self._collection)
        usable = by_file(training_rows(train_on, held_out=(), held_out_ids=frozenset()))
        # Features are what takes the time: each file is measured once, the fits are quick.
        files = [_measured(own, self._collection[file], sharing, tick) for file, own in sorted(usable.items())]
        self._screens = {pair: _fitted(files, pair) for pair in _left_out([self._collection[row.file] for row in rows])}

    def scores(self, left_out: str) -> list[float | None]:
        """One score a row, by a screen that saw neither the collection that is left out nor the row's own."""
        screens = [self._screens[frozenset({left_out, self._collection[row.file]})] for row in self._rows]
        return [
            None if features is None else float(screen.score(features)[0])
            for screen, features in zip(screens, self._features, strict=True)
        ]


def steps(train_on: Sequence[Row]) -> int:
    """How often `NestedScreens` ticks at most: once a file."""
    return len(by_file(train_on))


def _left_out(names: Sequence[str]) -> list[Collections]:
    return [frozenset(pair) for size in (1, 2) for pair in combinations(sorted(set(names)), size)]


def _by_context(rows: Sequence[Row], collection: Mapping[str, str]) -> Mapping[str, Collections]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row.group].add(collection[row.file])
    return {group: frozenset(names) for group, names in found.items()}


@dataclass(frozen=True, slots=True)
class _File:
    """One file's rows, measured.

    Attributes:
        collection: that it belongs to.
        own: its rows, by the collections that have their contexts.
        composed: long rows made of all of them.
        composed_unshared: made of those whose contexts no other collection has, for when one that does is left out.
    """

    collection: str
    own: Mapping[Collections, Table]
    composed: Table
    composed_unshared: Table

    def parts(self, left_out: Collections) -> list[Table]:
        """What may be trained on without these collections."""
        allowed = [table for sharing, table in self.own.items() if sharing.isdisjoint(left_out)]
        if self.collection in left_out or not allowed:
            return []
        features = np.concatenate([table.features for table in allowed])
        own = Table(features, np.concatenate([table.labels for table in allowed]))
        return [own, self.composed if len(allowed) == len(self.own) else self.composed_unshared]


def _measured(
    own: Sequence[Row], collection: str, sharing: Mapping[str, Collections], tick: Callable[[], None]
) -> _File:
    by_sharing: dict[Collections, list[Row]] = defaultdict(list)
    for row in own:
        by_sharing[sharing[row.group]].append(row)
    file, unshared = own[0].file, by_sharing[frozenset({collection})]
    try:
        composed = measure(compose(own, COMPOSED_PER_FILE, seed=file))
        found = _File(
            collection,
            {names: measure(rows) for names, rows in by_sharing.items()},
            composed,
            composed if len(by_sharing) == 1 else measure(compose(unshared, COMPOSED_PER_FILE, seed=file)),
        )
    except ValueError as error:
        raise InvalidInput(f"{file}: too few rows to train a screen on: {error}") from None
    tick()
    return found


def _fitted(files: Sequence[_File], left_out: Collections) -> Logistic:
    parts = [part for file in files for part in file.parts(left_out)]
    if not parts:
        raise InvalidInput(f"no rows to train a screen on without {' and '.join(sorted(left_out))}")
    return fit(parts)


def _features(row: Row) -> NDArray[np.float32] | None:
    try:
        return measure([row]).features
    except ValueError:
        # An answer without a word: no screen judges it.
        return None
