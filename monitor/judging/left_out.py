"""What fusing judges is worth on data that neither their calibration nor their weights have seen.

Each group (a data set) is left out in turn: calibration and fusion are fitted on the others and ranked on it. Means
are over the groups, each counting as much as any other, however many rows it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.judging.bootstrap import Interval, aurocs, interval, resamples
from monitor.judging.fusion import fit_fusion
from monitor.judging.metrics import auroc
from monitor.judging.platt import fit_platt

Floats = NDArray[np.float64]
Scores = Mapping[str, Floats]

FUSED = "fused"
"""The fusion's name beside the judges'."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOutGroup:
    """One data set, ranked by what was fitted on the others.

    Attributes:
        rows: on which every judge spoke.
        aurocs: by judge, with `FUSED` last.
        weights: of the judges, as the other data sets gave them.
    """

    name: str
    rows: int
    hallucinated: int
    aurocs: Mapping[str, Interval]
    weights: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """All groups, and what the fusion gains.

    Attributes:
        groups: in the order of their names.
        means: mean AUROC over the groups, by judge, with `FUSED` last.
        best_single: the judge with the highest mean *on these very groups*: nobody could have known it before, which
            makes it the hardest one to beat.
        gain: the fusion's mean less that judge's, on the same rows.
        chosen_single_gain: the fusion's mean less that of the judge which looked best on the other groups, chosen
            anew for each group: what a team without fusion could really have had.
        adds: by judge, the fusion's mean less that of a fusion fitted without it; empty for fewer than two judges.
        skipped: rows on which a judge was silent; they are left out.
    """

    groups: tuple[LeftOutGroup, ...]
    means: Mapping[str, Interval]
    best_single: str
    gain: Interval
    chosen_single_gain: Interval
    adds: Mapping[str, Interval]
    skipped: int


def leave_group_out(
    scores: Mapping[str, Sequence[float | None]],
    labels: Sequence[bool],
    groups: Sequence[str],
    *,
    seed: int = 0,
    samples: int = 2000,
    level: float = 0.95,
) -> LeftOut:
    """Rank each group by judges alone and by a fusion that was fitted on the other groups.

    Intervals are of a paired bootstrap over the rows within each group and label: the same draws for every judge.
    What was fitted is not fitted anew in each draw, and the groups themselves are not drawn: the intervals speak of
    these data sets, not of others.

    Args:
        scores: raw scores by judge, one a row; None where it could not judge.
        labels: True for *hallucinated*.
        groups: the data set of each row.
        seed: the same seed gives the same intervals.
        samples: resamples of each group.
        level: share of the resamples that an interval holds.

    Raises:
        ValueError: fewer than two groups, or one of them lacks one of the labels.
    """
    spoke = [row for row in range(len(labels)) if all(column[row] is not None for column in scores.values())]
    table = _Table(
        scores={judge: np.array([column[row] for row in spoke], dtype=np.float64) for judge, column in scores.items()},
        labels=np.array([labels[row] for row in spoke], dtype=bool),
        groups=np.array([groups[row] for row in spoke], dtype=object),
    )
    table.check()
    ranked = _Ranked.of(table, seed=seed, samples=samples)
    means = {name: interval(ranked.mean(name), ranked.mean_draws(name), level=level) for name in (*scores, FUSED)}
    best = max(scores, key=lambda judge: means[judge].value)
    return LeftOut(
        groups=tuple(ranked.group(name, level) for name in table.names),
        means=means,
        best_single=best,
        gain=ranked.gain_over(best, level),
        chosen_single_gain=ranked.gain_over(_CHOSEN, level),
        adds={judge: ranked.gain_over(_without(judge), level) for judge in scores if len(scores) > 1},
        skipped=len(labels) - len(spoke),
    )


_CHOSEN = "\x00chosen"


def _without(judge: str) -> str:
    return f"\x00without {judge}"


@dataclass(frozen=True, slots=True)
class _Table:
    scores: Scores
    labels: NDArray[np.bool_]
    groups: NDArray[np.object_]

    @property
    def names(self) -> list[str]:
        return sorted(set(self.groups))

    def check(self) -> None:
        if len(self.names) < 2:  # noqa: PLR2004 - one to leave out, one to fit on
            raise ValueError(f"{len(self.names)} groups: need two, one to leave out and one to fit on")
        for name in self.names:
            positives = self.labels[self.groups == name]
            if positives.all() or not positives.any():
                raise ValueError(f"{name}: both labels must occur")

    def only(self, rows: NDArray[np.bool_]) -> "_Table":
        kept = {judge: column[rows] for judge, column in self.scores.items()}
        return _Table(kept, self.labels[rows], self.groups[rows])


@dataclass(frozen=True, slots=True)
class _Ranked:
    """By group and name of a column: AUROC, and AUROC in each resample."""

    table: _Table
    weights: Mapping[str, Mapping[str, float]]
    values: Mapping[str, Mapping[str, float]]
    draws: Mapping[str, Mapping[str, Floats]]

    @classmethod
    def of(cls, table: _Table, *, seed: int, samples: int) -> "_Ranked":
        weights, values, draws = {}, {}, {}
        for place, name in enumerate(table.names):
            own, others = table.only(table.groups == name), table.only(table.groups != name)
            columns, weights[name] = _columns(own, others)
            counts = np.concatenate(resamples(own.labels, seed=seed + place, samples=samples))
            values[name] = {column: auroc(column_scores, own.labels) for column, column_scores in columns.items()}
            draws[name] = {column: aurocs(numbers, own.labels, counts) for column, numbers in columns.items()}
        return cls(table, weights, values, draws)

    def mean(self, column: str) -> float:
        return float(np.mean([group[column] for group in self.values.values()]))

    def mean_draws(self, column: str) -> Floats:
        return np.asarray(np.mean([group[column] for group in self.draws.values()], axis=0))

    def gain_over(self, column: str, level: float) -> Interval:
        drawn = self.mean_draws(FUSED) - self.mean_draws(column)
        return interval(self.mean(FUSED) - self.mean(column), drawn, level=level)

    def group(self, name: str, level: float) -> LeftOutGroup:
        labels = self.table.labels[self.table.groups == name]
        shown = (*self.table.scores, FUSED)
        found = {column: interval(self.values[name][column], self.draws[name][column], level=level) for column in shown}
        return LeftOutGroup(
            name=name,
            rows=len(labels),
            hallucinated=int(labels.sum()),
            aurocs=found,
            weights=self.weights[name],
        )


def _columns(own: _Table, others: _Table) -> tuple[dict[str, Floats], Mapping[str, float]]:
    """The left-out rows' scores by every judge and every fusion, and the whole fusion's weights."""
    columns = dict(own.scores)
    columns[FUSED], weights = _fused(list(own.scores), own, others)
    for judge in own.scores:
        if len(own.scores) > 1:
            columns[_without(judge)], _ = _fused([name for name in own.scores if name != judge], own, others)
    columns[_CHOSEN] = own.scores[max(own.scores, key=lambda judge: _mean_auroc(others, judge))]
    return columns, weights


def _fused(judges: Sequence[str], own: _Table, others: _Table) -> tuple[Floats, Mapping[str, float]]:
    fitted = {judge: fit_platt(others.scores[judge], others.labels) for judge in judges}
    known = {judge: fitted[judge].probabilities(others.scores[judge]) for judge in judges}
    fusion = fit_fusion(known, others.labels, groups=list(others.groups))
    unseen = {judge: fitted[judge].probabilities(own.scores[judge]) for judge in judges}
    return fusion.log_odds(unseen), fusion.weights


def _mean_auroc(table: _Table, judge: str) -> float:
    inside = [table.groups == name for name in table.names]
    return float(np.mean([auroc(table.scores[judge][rows], table.labels[rows]) for rows in inside]))
