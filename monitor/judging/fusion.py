"""One probability from several judges: logistic weights over what each adds to the prior.

`logit p = prior + bias + sum_j weight_j * (logit p_j - prior)`, where `p_j` is judge j's calibrated probability
and every term is in log-odds (a logarithmic opinion pool; Genest and Zidek 1986, with fitted weights). A judge
that says no more than the prior moves nothing; a weight below 1 discounts what it shares with the others.

Three forms are tried, the simplest first, and a later one is taken only where cross-validation finds it clearly
better: the pool with weights of at least 0; the pool with two terms more, for the most and the least alarmed of the
judges, which still rises with every judge; and weights of either sign, which is what dependent errors can need (a
weak judge that errs where a strong one errs tells, by contradiction, when the strong one errs).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from monitor.judging.crossval import Mask, clearly_lower, folds
from monitor.judging.logistic import fit_bounded
from monitor.judging.odds import Floats, log_losses, log_odds, logit, sigmoid
from monitor.judging.segments import Shift

__all__ = ["Fusion", "fit_fusion", "logit", "sigmoid"]

DECIMALS = 6
"""What is fitted is rounded, so that another machine's arithmetic does not make another version."""
LEAST_ROWS = 40
"""Fewer rows than this cannot tell what judges share: the best single one decides."""
_RIDGE = 1e-3
"""Pull of the weights towards 0, per row: two judges that say the same share the weight instead of fighting."""
_PRECISION = 1.0
"""And once, of a unit normal prior: a few rows that happen to be separable must not make a judge infallible."""
_FREE = np.full(1, -np.inf)
_LEAST_WEIGHT = 0.01
"""Of a judge that the terms for the most and the least alarmed are taken over: whoever is heard there, decides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fusion:
    """Weights for one set of judges, fitted on rows where all of them spoke.

    Attributes:
        weights: judge version to weight; 0 for a judge that adds nothing to the others.
        bias: shift in log-odds.
        prior: share of hallucinated rows in the fit.
        rows: rows of the fit.
        log_loss: mean cross-validated log loss in nats, for choosing between fusions.
        highest, lowest: weights of the most and of the least alarmed among the judges that decide.
        segments: what segments shift the fused log-odds by, where that was found to help.
    """

    weights: Mapping[str, float]
    bias: float
    prior: float
    rows: int
    log_loss: float
    highest: float = 0.0
    lowest: float = 0.0
    segments: Mapping[str, Shift] = field(default_factory=dict)

    def log_odds(self, probabilities: Mapping[str, ArrayLike]) -> Floats:
        """Fused log-odds of *hallucinated*, one a row, for all segments alike.

        Args:
            probabilities: calibrated, by judge, one a row; those of every deciding judge.
        """
        base = logit(self.prior)
        deciding = self.deciding
        if not deciding:
            rows = np.shape(next(iter(probabilities.values()), 0.0))
            return np.full(rows, base + self.bias)
        said = np.stack([log_odds(probabilities[judge]) - base for judge in deciding])
        weights = np.array([self.weights[judge] for judge in deciding])
        extremes = self.highest * said.max(axis=0) + self.lowest * said.min(axis=0)
        return np.asarray(base + self.bias + np.tensordot(weights, said, axes=1) + extremes)

    def probability(self, probabilities: Mapping[str, float], segment: str | None = None) -> float:
        """Fuse one row's calibrated probabilities; needs those of every deciding judge."""
        fused = float(self.log_odds(probabilities))
        shift = self.segments.get(segment) if segment is not None else None
        return sigmoid(fused if shift is None else shift.moved(fused))

    @property
    def deciding(self) -> tuple[str, ...]:
        """Versions of the judges whose word carries weight."""
        return tuple(judge for judge, weight in self.weights.items() if weight != 0)


def fit_fusion(
    probabilities: Mapping[str, ArrayLike], labels: Sequence[bool] | ArrayLike, *, groups: Sequence[str] | None = None
) -> Fusion:
    """Fit the weights by penalised maximum likelihood; who enters, and in what form, by cross-validation.

    Judges enter one by one, the most helpful first, for as long as the held-out log loss falls by more than one
    standard error of the difference; all others get weight 0. Without that bar noise would earn weight in half of
    all fits. With fewer than `LEAST_ROWS` rows only one enters.

    Args:
        probabilities: judge version to calibrated probabilities of *hallucinated*, one a row, same rows for all.
        labels: True for hallucinated.
        groups: the data set of each row; where given, whole data sets are held out, and each has a level of its own:
            a judge whose scores lie higher on one data set than on another tells hallucinated from faithful answers
            within either as well as before. Weights and choice rest on what it tells apart within data sets; how
            sure the sum may be rests on all.
    """
    target = np.asarray(labels, dtype=np.float64)
    prior = float(target.mean())
    columns = {judge: log_odds(values) - logit(prior) for judge, values in probabilities.items()}
    held_out = folds(target == 1, groups)
    whole = groups is not None and all(_is_whole(held, groups) for held in held_out)
    rows = _Rows(columns, target, np.asarray(groups, dtype=object) if groups is not None and whole else None)
    form, losses = _forward(rows, held_out)
    if len(columns) > 1 and len(target) >= LEAST_ROWS:
        for richer in (_Form(form.judges, extremes=True), _Form(tuple(columns), signed=True)):
            if len(richer.judges) > 1:
                tried = _held_out_losses(richer, rows, held_out)
                if clearly_lower(tried, losses):
                    form, losses = richer, tried
    bias, fitted = 0.0, np.ones(len(form.judges))
    if len(form.judges) > 1:
        # A judge that decides alone keeps its own calibrated probability, fitted on more rows than these.
        bias, fitted = _fit(form, rows)
    named = dict(zip(form.judges, fitted, strict=False))
    highest, lowest = fitted[len(form.judges) :] if form.extremes else (0.0, 0.0)
    return Fusion(
        weights={judge: _rounded(named.get(judge, 0.0)) for judge in columns},
        bias=_rounded(bias),
        prior=_rounded(prior),
        rows=len(target),
        log_loss=_rounded(float(losses.mean())),
        highest=_rounded(highest),
        lowest=_rounded(lowest),
    )


def _is_whole(held: Mask, groups: Sequence[str]) -> bool:
    names = np.asarray(groups, dtype=object)
    return not set(names[held]) & set(names[~held])


@dataclass(frozen=True, slots=True)
class _Rows:
    """What judges add to the prior, one column a judge; the labels; the data sets, where they are held out whole."""

    columns: Mapping[str, Floats]
    target: Floats
    groups: NDArray[np.object_] | None

    def only(self, kept: Mask) -> "_Rows":
        columns = {judge: column[kept] for judge, column in self.columns.items()}
        return _Rows(columns, self.target[kept], None if self.groups is None else self.groups[kept])


@dataclass(frozen=True, slots=True)
class _Form:
    """Who is weighed, and how freely."""

    judges: tuple[str, ...] = ()
    extremes: bool = False
    signed: bool = False

    def features(self, columns: Mapping[str, Floats]) -> Floats:
        if not self.judges:
            return np.empty((len(next(iter(columns.values()))), 0))
        said = np.column_stack([columns[judge] for judge in self.judges])
        return np.column_stack([said, said.max(axis=1), said.min(axis=1)]) if self.extremes else said

    def lower(self) -> list[float]:
        if self.signed:
            return [-np.inf] * len(self.judges)
        return [_LEAST_WEIGHT] * len(self.judges) + [0.0, 0.0] if self.extremes else [0.0] * len(self.judges)


def _forward(rows: _Rows, held_out: Sequence[Mask]) -> tuple[_Form, Floats]:
    form = _Form()
    losses = _held_out_losses(form, rows, held_out)
    most = len(rows.columns) if len(rows.target) >= LEAST_ROWS else 1
    while len(form.judges) < most:
        tried = {
            judge: _held_out_losses(_Form((*form.judges, judge)), rows, held_out)
            for judge in rows.columns
            if judge not in form.judges
        }
        best = min(tried, key=lambda judge: float(tried[judge].mean()))
        if not clearly_lower(tried[best], losses):
            break
        form, losses = _Form((*form.judges, best)), tried[best]
    return form, losses


def _held_out_losses(form: _Form, rows: _Rows, held_out: Sequence[Mask]) -> Floats:
    features, odds = form.features(rows.columns), np.empty(len(rows.target))
    for held in held_out:
        known = rows.only(~held)
        bias, weights = _fit(form, known)
        odds[held] = logit(float(known.target.mean())) + bias + features[held] @ weights
    if rows.groups is not None:
        for name in set(rows.groups):
            inside = rows.groups == name
            odds[inside] += _level(odds[inside], rows.target[inside])
    return log_losses(expit(odds), rows.target)


def _level(odds: Floats, target: Floats) -> float:
    """What all log-odds of a data set must be shifted by to fit it best."""
    level = np.ones((len(target), 1))
    penalty = np.full(1, _PRECISION / len(target))
    return float(fit_bounded(level, target, offset=odds, penalty=penalty, lower=_FREE, start=np.zeros(1))[0])


def _fit(form: _Form, rows: _Rows) -> tuple[float, Floats]:
    """Bias and weights; with data sets, from what judges tell apart within each of them."""
    features = form.features(rows.columns)
    if rows.groups is None or not features.shape[1]:
        return _fit_columns(features, np.ones((len(features), 1)), form.lower(), rows.target)
    levels = np.column_stack([rows.groups == name for name in sorted(set(rows.groups))]).astype(np.float64)
    _, weights = _fit_columns(features, levels, form.lower(), rows.target)
    # Of a data set that nobody has seen the level is not known: how sure the sum can be is a question of its own.
    bias, scale = _fit_columns((features @ weights)[:, np.newaxis], np.ones((len(features), 1)), [0.0], rows.target)
    return bias, weights * scale[0]


def _fit_columns(features: Floats, levels: Floats, lower: Sequence[float], target: Floats) -> tuple[float, Floats]:
    """The first level's parameter and the features' weights."""
    count, height = features.shape[1], levels.shape[1]
    found = fit_bounded(
        np.column_stack([levels, features]),
        target,
        offset=logit(float(target.mean())),
        penalty=np.array([0.0] * height + [_RIDGE + _PRECISION / len(target)] * count),
        lower=np.array([-np.inf] * height + list(lower)),
        start=np.array([0.0] * height + [1.0 / max(count, 1)] * count),
    )
    return float(found[0]), found[height:]


def _rounded(number: float) -> float:
    return round(float(number), DECIMALS) + 0.0
