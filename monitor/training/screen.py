"""Training of the screen: which rows, with what weight, and how good on files that it has not seen."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.judging.features import FEATURES, UNSIGNED, extract
from monitor.judging.metrics import auroc, balanced_accuracy
from monitor.training.compose import compose
from monitor.training.logistic import Logistic, fit_logistic
from monitor.training.rows import Row, without
from monitor.training.split import is_calibration_row

RIDGE = 1.0
COMPOSED_PER_FILE = 400
DECIMALS = 4
"""Weights are rounded, so that the last bits of another machine's arithmetic do not make another model."""

_TRIVIAL = FEATURES.index("words_missing")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as numbers."""

    features: NDArray[np.float32]
    labels: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """How good a screen is on one file whose whole family it was trained without.

    Attributes:
        trivial_auroc: of the share of answer words that the documents lack, alone.
        auroc, balanced_accuracy: of the screen; the latter at log-odds 0, without calibration.
        composed_auroc: of the screen on long traces composed from the file.
    """

    file: str
    rows: int
    hallucinated_share: float
    trivial_auroc: float
    auroc: float
    balanced_accuracy: float
    trivial_composed_auroc: float
    composed_auroc: float


def training_rows(rows: Sequence[Row], *, held_out: Sequence[Row], held_out_ids: frozenset[str]) -> list[Row]:
    """The rows that a screen may be trained on.

    Left out are the calibration rows, those named, and every row that shares an id or a context with one of
    `held_out`, such as the demo's.
    """
    named = [row for row in rows if row.id in held_out_ids]
    ids = frozenset(row.id for row in (*held_out, *named))
    groups = frozenset(row.group for row in (*held_out, *named))
    return [row for row in without(rows, ids=ids, groups=groups) if not is_calibration_row(row.raw)]


def train(rows: Sequence[Row]) -> Logistic:
    """Fit the screen; the same rows in the same order give the same weights.

    Each file counts as much as any other, its own rows as much as those composed from them, either label half.

    Raises:
        ValueError: a file lacks one of the labels.
    """
    parts = []
    for file, own in sorted(by_file(rows).items()):
        parts += [measure(own), measure(compose(own, COMPOSED_PER_FILE, seed=file))]
    return fit(parts)


def fit(parts: Sequence[Table]) -> Logistic:
    """Fit the screen to parts that count alike, of each file two: its own rows, and those composed of them.

    Raises:
        ValueError: there are no parts.
    """
    fitted = fit_logistic(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([_balanced(part.labels) for part in parts]),
        free=[name in UNSIGNED for name in FEATURES],
        ridge=RIDGE,
    )
    return Logistic(weights=fitted.weights.round(DECIMALS), bias=round(fitted.bias, DECIMALS))


def _balanced(labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    return weights


def evaluate(rows: Sequence[Row], train_rows: Sequence[Row]) -> list[LeftOut]:
    """Measure each file with a screen that was trained on the training rows of the other families.

    Args:
        rows: all rows; those of one file are the test, wherever else they were used.
        train_rows: what `training_rows` left.
    """
    return [_leave_out(file, own, train_rows) for file, own in sorted(by_file(rows).items())]


def _leave_out(file: str, own: Sequence[Row], train_rows: Sequence[Row]) -> LeftOut:
    families = {row.family for row in own}
    others = [row for row in train_rows if row.family not in families and row.file != file]
    others = without(others, ids=frozenset(), groups=frozenset(row.group for row in own))
    model = train(others)
    real, composed = measure(own), measure(compose(own, COMPOSED_PER_FILE, seed=file))
    return LeftOut(
        file=file,
        rows=len(own),
        hallucinated_share=float(real.labels.mean()),
        trivial_auroc=auroc(real.features[:, _TRIVIAL], real.labels),
        auroc=auroc(model.score(real.features), real.labels),
        balanced_accuracy=balanced_accuracy(model.score(real.features) > 0, real.labels),
        trivial_composed_auroc=auroc(composed.features[:, _TRIVIAL], composed.labels),
        composed_auroc=auroc(model.score(composed.features), composed.labels),
    )


def measure(rows: Iterable[Row]) -> Table:
    """Features and labels of the rows; an answer without a word is left out, as the screen does not judge it."""
    features, labels = [], []
    for row in rows:
        try:
            features.append(extract(row.question, row.documents, row.answer))
        except ValueError:
            continue
        labels.append(row.hallucinated)
    return Table(np.stack(features), np.array(labels, dtype=bool))


def by_file(rows: Iterable[Row]) -> Mapping[str, list[Row]]:
    """The rows of each file, in their order."""
    files: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        files[row.file].append(row)
    return files
