"""Judges ranked on labelled data sets, as public leaderboards do, but with intervals and honest thresholds.

AUROC is of raw scores and needs no threshold. Everything else needs probabilities, and a probability is only as good
as where it was fitted: a data set's own labels must not have a say in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from monitor.benchmarks.figures import SAMPLES, Answered, Figures, averaged, measured
from monitor.benchmarks.labelled import collections
from monitor.benchmarks.scores import Score
from monitor.domain.judgement import JudgeIdentity
from monitor.judging.calibration import Calibration
from monitor.judging.odds import sigmoid
from monitor.judging.platt import fit_platt
from monitor.training.rows import Row

_FOLDS = 5


class Fitted(StrEnum):
    """Where a judge's probabilities come from."""

    LEFT_OUT = "other data sets"
    """Platt scaling fitted on the collections of data sets that the row does not belong to."""
    FOLDS = "other folds"
    """Likewise on the rows of other contexts, where there is only one collection."""
    SETTINGS = "settings"
    """The calibration that the settings name."""
    OWN = "its own"
    """A cascade's verdict is a probability already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One judge's scores.

    Attributes:
        name: what tables call it.
        scores: one a row, aligned with the rows; None where it was not asked.
        seen: rows that are known to have been in its training; figures on them flatter.
    """

    name: str
    identity: JudgeIdentity
    scores: Sequence[Score | None]
    seen: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """One judge's figures.

    Attributes:
        mean: metrics averaged over the data sets.
        pooled: over all rows together, whatever their data set.
        data_sets: by data set.
    """

    name: str
    identity: JudgeIdentity
    fitted: Fitted
    seen: int
    mean: Figures
    pooled: Figures
    data_sets: Mapping[str, Figures]


def rank(
    rows: Sequence[Row],
    columns: Sequence[Column],
    *,
    calibration: Calibration | None = None,
    seed: int = 0,
    samples: int = SAMPLES,
) -> list[Ranked]:
    """The judges that answered at least once, best first by mean AUROC.

    Args:
        rows: labelled.
        columns: the judges; their names differ.
        calibration: used for the judges that it knows; all others, and all when None, are calibrated here.
        seed: of the bootstrap; the same scores and seed give the same figures.
        samples: resamples of the bootstrap.
    """
    ranked = [
        _ranked(rows, column, calibration, seed=seed, samples=samples)
        for column in columns
        if any(score is not None for score in column.scores)
    ]
    return sorted(ranked, key=_order)


def _order(one: Ranked) -> tuple[float, str]:
    found = one.mean.metrics["auroc"] or one.pooled.metrics["auroc"]
    return (-found.value if found else 0.0, one.name)


def _ranked(rows: Sequence[Row], column: Column, calibration: Calibration | None, *, seed: int, samples: int) -> Ranked:
    asked = [(row, score) for row, score in zip(rows, column.scores, strict=True) if score is not None]
    fitted, probabilities = probabilities_of(column.identity, asked, calibration)
    answers = [
        Answered(row=row, score=score, probability=probability)
        for (row, score), probability in zip(asked, probabilities, strict=True)
    ]
    names = sorted({row.file for row, _ in asked})
    parts = {name: [one for one in answers if one.row.file == name] for name in names}
    return Ranked(
        name=column.name,
        identity=column.identity,
        fitted=fitted,
        seen=column.seen,
        mean=averaged(list(parts.values()), seed=seed, samples=samples),
        pooled=measured(answers, seed=seed, samples=samples),
        data_sets={name: measured(part, seed=seed, samples=samples) for name, part in parts.items()},
    )


def probabilities_of(
    identity: JudgeIdentity, asked: Sequence[tuple[Row, Score]], calibration: Calibration | None
) -> tuple[Fitted, list[float | None]]:
    """A probability of *hallucinated* for each row on which the judge spoke, and where they come from."""
    if identity.name == "cascade":
        return Fitted.OWN, [None if one.score is None else sigmoid(one.score) for _, one in asked]
    if calibration is not None and identity.version in calibration.judges:
        known = (
            None if one.score is None else calibration.probability(identity.version, one.score) for _, one in asked
        )
        return Fitted.SETTINGS, list(known)
    collection = collections([row for row, _ in asked])
    if len(set(collection.values())) > 1:
        return Fitted.LEFT_OUT, _held_out(asked, [collection[row.file] for row, _ in asked])
    # Rows of one context stay together: they would tell on each other.
    return Fitted.FOLDS, _held_out(asked, [str(int(row.group[:8], 16) % _FOLDS) for row, _ in asked])


def _held_out(asked: Sequence[tuple[Row, Score]], parts: Sequence[str]) -> list[float | None]:
    """Each row's probability by Platt scaling fitted on the other parts; None where they lack one of the labels."""
    found: list[float | None] = [None] * len(asked)
    for part in sorted(set(parts)):
        others = [
            (score.score, row.hallucinated)
            for (row, score), own in zip(asked, parts, strict=True)
            if own != part and score.score is not None
        ]
        if len({label for _, label in others}) < 2:  # noqa: PLR2004 - both labels
            continue
        fitted = fit_platt([score for score, _ in others], [label for _, label in others])
        for place, (_, score) in enumerate(asked):
            if parts[place] == part and score.score is not None:
                found[place] = fitted.probability(score.score)
    return found
