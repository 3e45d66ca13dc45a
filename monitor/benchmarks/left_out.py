"""What fusing judges is worth on whole data sets that neither its calibration, its weights nor its screen have seen.

For each data set, everything is fitted on the data sets of other collections: calibration, weights, and the screen (see
`nested_screen`). Then judges and fusions are ranked on the data set itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from monitor.benchmarks.figures import Cost
from monitor.benchmarks.labelled import collections
from monitor.judging.bootstrap import Interval, aurocs, interval, resamples
from monitor.judging.fusion import fit_fusion
from monitor.judging.metrics import auroc
from monitor.judging.platt import fit_platt
from monitor.training.rows import Row

Floats = NDArray[np.float64]
Scores = Mapping[str, Sequence[float | None]]
ScoresWithout = Callable[[str], Scores]
"""Scores by judge, one a row, for when a collection of data sets is left out."""

LEAST_COLLECTIONS = 3
"""One to leave out, and two so that what is fitted can tell a judge from a data set."""
SAMPLES = 2000
_MOST_JUDGES_IN_ALL_SETS = 4
JOINED = " + "


@dataclass(frozen=True, kw_only=True, slots=True)
class Fused:
    """Judges and their fusions on unseen data sets.

    Attributes:
        judges, fusions: names; a fusion's is its judges', joined. The last fusion is of all judges.
        rows: on which every judge spoke; only they count.
        skipped: the others.
        data_sets: AUROC by data set and name.
        means: AUROC by name, averaged over the data sets.
        best_single: the judge with the highest mean on these very data sets; nobody could have known it before,
            which makes it the hardest to beat.
        gains: by fusion, its mean less the best single judge's, on the same rows (paired bootstrap).
        adds: by judge, what the fusion of all loses in mean AUROC without it.
        weights: by data set, of each judge in the fusion of all.
        costs: by judge.
    """

    judges: tuple[str, ...]
    fusions: tuple[str, ...]
    rows: int
    skipped: int
    data_sets: Mapping[str, Mapping[str, Interval]]
    means: Mapping[str, Interval]
    best_single: str
    gains: Mapping[str, Interval]
    adds: Mapping[str, Interval]
    weights: Mapping[str, Mapping[str, float]]
    costs: Mapping[str, Cost]


@dataclass(frozen=True, slots=True)
class _Unseen:
    """One data set: AUROC by name, its resamples, and the weights that it was judged with."""

    values: Mapping[str, float]
    draws: Mapping[str, Floats]
    weights: Mapping[str, float]


def leave_out(
    rows: Sequence[Row],
    scores_without: ScoresWithout,
    costs: Mapping[str, Cost],
    *,
    seed: int = 0,
    samples: int = SAMPLES,
) -> Fused:
    """Fit on the other collections (`labelled.collections`) and rank on each data set, for all data sets.

    Intervals are over the rows of each data set, drawn anew within each label, the same draws for every judge.
    Nothing is fitted anew in a draw and the data sets are as they are: the intervals speak of these data sets.

    Args:
        rows: labelled.
        scores_without: asked once a collection.
        costs: of each judge; its names are the judges', two or more.
        seed: of the bootstrap.
        samples: resamples.

    Raises:
        ValueError: fewer than LEAST_COLLECTIONS collections, fewer than two judges, or a data set without both labels
            among the rows on which all judges spoke.
    """
    judges, collection = tuple(costs), collections(rows)
    left_out = sorted(set(collection.values()))
    if len(judges) < 2 or len(left_out) < LEAST_COLLECTIONS:  # noqa: PLR2004 - a pair to fuse
        raise ValueError(f"{len(judges)} judges, {len(left_out)} collections: need 2 and {LEAST_COLLECTIONS}")
    tables = {name: _Table.of(rows, scores_without(name), judges, collection) for name in left_out}
    sets = _fused_sets(judges)
    unseen = {
        name: _judged(tables[collection[name]], name, sets, seed=seed + place, samples=samples)
        for place, name in enumerate(sorted(collection))
    }
    return _summed_up(unseen, judges, sets, costs, rows=len(tables[left_out[0]].files), asked=len(rows))


def _fused_sets(judges: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All sets of two and more; of many judges only all, and all but one. The set of all comes last."""
    count = len(judges)
    least = 2 if count <= _MOST_JUDGES_IN_ALL_SETS else count - 1
    return [group for size in range(least, count + 1) for group in combinations(judges, size)]


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows on which every judge spoke, with their scores."""

    files: NDArray[np.str_]
    collections: NDArray[np.str_]
    scores: Mapping[str, Floats]
    labels: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Sequence[Row], scores: Scores, judges: Sequence[str], collection: Mapping[str, str]) -> "_Table":
        spoke = [place for place in range(len(rows)) if all(scores[judge][place] is not None for judge in judges)]
        return cls(
            np.array([rows[place].file for place in spoke]),
            np.array([collection[rows[place].file] for place in spoke]),
            {judge: np.array([scores[judge][place] for place in spoke], dtype=np.float64) for judge in judges},
            np.array([rows[place].hallucinated for place in spoke], dtype=bool),
        )

    def only(self, kept: NDArray[np.bool_]) -> "_Table":
        scores = {judge: column[kept] for judge, column in self.scores.items()}
        return _Table(self.files[kept], self.collections[kept], scores, self.labels[kept])


def _judged(table: _Table, name: str, sets: Sequence[tuple[str, ...]], *, seed: int, samples: int) -> _Unseen:
    own = table.only(table.files == name)
    others = table.only(~np.isin(table.collections, own.collections))
    if own.labels.all() or not own.labels.any():
        raise ValueError(f"{name}: no rows of both labels on which all judges spoke")
    columns = dict(own.scores)
    weights: Mapping[str, float] = {}
    for judges in sets:
        columns[JOINED.join(judges)], weights = _fused(judges, own, others)
    counts = np.concatenate(resamples(own.labels, seed=seed, samples=samples))
    return _Unseen(
        {column: auroc(scores, own.labels) for column, scores in columns.items()},
        {column: aurocs(scores, own.labels, counts) for column, scores in columns.items()},
        weights,
    )


def _fused(judges: Sequence[str], own: _Table, others: _Table) -> tuple[Floats, Mapping[str, float]]:
    """The data set's fused log-odds, and the judges' weights, as the other collections give them."""
    fitted = {judge: fit_platt(others.scores[judge], others.labels) for judge in judges}
    known = {judge: fitted[judge].probabilities(others.scores[judge]) for judge in judges}
    fusion = fit_fusion(known, others.labels, groups=list(others.collections))
    unseen = {judge: fitted[judge].probabilities(own.scores[judge]) for judge in judges}
    return fusion.log_odds(unseen), fusion.weights


def _summed_up(
    unseen: Mapping[str, _Unseen],
    judges: tuple[str, ...],
    sets: Sequence[tuple[str, ...]],
    costs: Mapping[str, Cost],
    *,
    rows: int,
    asked: int,
) -> Fused:
    fusions = tuple(JOINED.join(group) for group in sets)
    values = {name: float(np.mean([one.values[name] for one in unseen.values()])) for name in (*judges, *fusions)}
    draws = {name: np.mean([one.draws[name] for one in unseen.values()], axis=0) for name in values}

    def gain(name: str, over: str) -> Interval:
        return interval(values[name] - values[over], draws[name] - draws[over])

    best, whole = max(judges, key=lambda judge: values[judge]), fusions[-1]
    rest = {judge: JOINED.join(one for one in judges if one != judge) for judge in judges}
    return Fused(
        judges=judges,
        fusions=fusions,
        rows=rows,
        skipped=asked - rows,
        data_sets={
            data_set: MappingProxyType({name: interval(one.values[name], one.draws[name]) for name in values})
            for data_set, one in unseen.items()
        },
        means={name: interval(values[name], draws[name]) for name in values},
        best_single=best,
        gains={fusion: gain(fusion, best) for fusion in fusions},
        adds={judge: gain(whole, rest[judge]) for judge in judges},
        weights={data_set: one.weights for data_set, one in unseen.items()},
        costs=costs,
    )
