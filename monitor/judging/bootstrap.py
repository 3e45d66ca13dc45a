"""Intervals of metrics by the bootstrap, stratified so that every resample has both labels.

A resample is a row of counts: how often each original row was drawn. Metrics that are sums over rows, or over
pairs of them, are then computed for hundreds of resamples at once by matrix algebra.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitor.judging.metrics import accuracy, auroc, balanced_accuracy, brier, ece, f1

Floats = NDArray[np.float64]
Metric = Callable[[ArrayLike, NDArray[np.bool_]], float]

_CELLS = 4_000_000
"""Counts held at once: 32 MB."""
_BINS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An estimate and its bounds, ends included."""

    value: float
    low: float
    high: float

    def holds(self, number: float) -> bool:
        """Whether the number lies within the bounds."""
        return self.low <= number <= self.high


def bootstrap(
    metric: Metric,
    values: ArrayLike,
    labels: ArrayLike,
    *,
    seed: int,
    samples: int = 1000,
    level: float = 0.95,
    strata: Sequence[object] | None = None,
) -> Interval:
    """A metric with its percentile bootstrap interval (Efron 1979).

    Args:
        metric: any function of values and labels; those of `metrics` are computed for many resamples at once.
        values: scores, probabilities or predictions, as the metric wants them; one a row.
        labels: True for *hallucinated*; one a row.
        seed: the same seed gives the same interval.
        samples: resamples.
        level: share of the resamples that the interval holds.
        strata: a name a row, such as its data set: rows are drawn anew within each name and label.

    Raises:
        ValueError: as the metric itself does, on the rows as they are.
    """
    numbers, positive = np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=bool)
    estimate = metric(numbers, positive)
    return interval(estimate, draws(metric, numbers, positive, seed=seed, samples=samples, strata=strata), level=level)


def draws(
    metric: Metric,
    values: Floats,
    labels: NDArray[np.bool_],
    *,
    seed: int,
    samples: int,
    strata: Sequence[object] | None = None,
) -> Floats:
    """The metric in each resample, for those who combine several before they take an interval; see `bootstrap`."""
    weighted = _WEIGHTED.get(metric, _one_by_one(metric))
    blocks = resamples(labels, seed=seed, samples=samples, strata=strata)
    return np.concatenate([weighted(values, labels, counts) for counts in blocks])


def interval(estimate: float, drawn: Floats, *, level: float = 0.95) -> Interval:
    """The interval that holds the middle `level` of what resamples gave."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(estimate), low=float(low), high=float(high))


def resamples(
    labels: NDArray[np.bool_], *, seed: int, samples: int, strata: Sequence[object] | None = None
) -> list[Floats]:
    """Counts of each row in each resample, `[some of the samples, rows]` at a time.

    Within each stratum and label as many rows are drawn, with replacement, as there are.
    """
    places = _strata(labels, strata)
    draw = np.random.default_rng(seed)
    step = max(1, _CELLS // max(1, len(labels)))
    blocks = []
    for begin, end in pairwise([*range(0, samples, step), samples]):
        counts = np.empty((end - begin, len(labels)))
        for inside in places:
            counts[:, inside] = draw.multinomial(len(inside), np.full(len(inside), 1 / len(inside)), size=end - begin)
        blocks.append(counts)
    return blocks


def _strata(labels: NDArray[np.bool_], names: Sequence[object] | None) -> list[NDArray[np.intp]]:
    by_key: dict[tuple[object, bool], list[int]] = {}
    for row, label in enumerate(labels):
        by_key.setdefault((None if names is None else names[row], bool(label)), []).append(row)
    return [np.array(rows, dtype=np.intp) for rows in by_key.values()]


def aurocs(scores: Floats, labels: NDArray[np.bool_], counts: Floats) -> Floats:
    """AUROC of each resample, ties counting half; see `metrics.auroc`."""
    order = np.argsort(scores, kind="stable")
    ordered, positive = scores[order], labels[order]
    begins = np.flatnonzero(np.concatenate([[True], np.diff(ordered) > 0]))
    arranged = counts[:, order]
    positives = np.add.reduceat(arranged * positive, begins, axis=1)
    negatives = np.add.reduceat(arranged * ~positive, begins, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2.0
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return np.asarray((positives * below).sum(axis=1) / pairs)


def _accuracies(called: Floats, labels: NDArray[np.bool_], counts: Floats) -> Floats:
    return np.asarray(counts @ ((called > 0) == labels) / counts.sum(axis=1))


def _balanced(called: Floats, labels: NDArray[np.bool_], counts: Floats) -> Floats:
    right = ((called > 0) == labels).astype(np.float64)
    caught = counts @ (right * labels) / (counts @ labels.astype(np.float64))
    spared = counts @ (right * ~labels) / (counts @ (~labels).astype(np.float64))
    return np.asarray((caught + spared) / 2.0)


def _f1s(called: Floats, labels: NDArray[np.bool_], counts: Floats) -> Floats:
    named = counts @ ((called > 0).astype(np.float64) + labels)
    caught = 2.0 * (counts @ ((called > 0) & labels).astype(np.float64))
    return np.asarray(np.divide(caught, named, out=np.zeros_like(caught), where=named > 0))


def _briers(values: Floats, labels: NDArray[np.bool_], counts: Floats) -> Floats:
    return np.asarray(counts @ (values - labels) ** 2 / counts.sum(axis=1))


def _eces(values: Floats, labels: NDArray[np.bool_], counts: Floats) -> Floats:
    places = np.clip((values * _BINS).astype(np.intp), 0, _BINS - 1)
    inside = np.eye(_BINS)[places] * (values - labels)[:, np.newaxis]
    return np.asarray(np.abs(counts @ inside).sum(axis=1) / counts.sum(axis=1))


_Weighted = Callable[[Floats, NDArray[np.bool_], Floats], Floats]

_WEIGHTED: Mapping[Metric, _Weighted] = {
    accuracy: _accuracies,
    auroc: aurocs,
    balanced_accuracy: _balanced,
    brier: _briers,
    ece: _eces,
    f1: _f1s,
}


def _one_by_one(metric: Metric) -> _Weighted:
    def weighted(values: Floats, labels: NDArray[np.bool_], counts: Floats) -> Floats:
        drawn = (np.repeat(np.arange(len(labels)), row.astype(np.intp)) for row in counts)
        return np.array([metric(values[rows], labels[rows]) for rows in drawn])

    return weighted
