"""One judge version's calibration: from its raw scores to probabilities, and how far those can be trusted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from monitor.domain.judgement import JudgeIdentity, Tier
from monitor.judging.bootstrap import Metric, bootstrap
from monitor.judging.crossval import Mask, clearly_lower, folds
from monitor.judging.isotonic import Isotonic, fit_isotonic
from monitor.judging.metrics import auroc, brier, ece
from monitor.judging.odds import Floats, log_losses, log_odds, sigmoid
from monitor.judging.platt import Platt, fit_platt
from monitor.judging.reliability import Bin, calibration_error, reliability_curve
from monitor.judging.segments import Shift, fit_segments

LEAST_ROWS = 40
"""Fewer rows, or fewer than a quarter of them with either label, fit nothing worth a decision."""
LEAST_ISOTONIC_ROWS = 500
"""With fewer rows a free curve follows their noise."""
DECIMALS = 6
"""What is fitted is rounded, so that another machine's arithmetic does not make another version."""

_SEED = 0
_SAMPLES = 500

Bounds = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeCalibration:
    """One judge version's calibration, with how good it was found to be, cross-validated.

    Attributes:
        version, model, tier: whose it is; files of the first format tell no tier.
        slope, intercept: the line of Platt scaling.
        prior: share of hallucinated rows in the fit; the probabilities assume it.
        rows: rows of the fit.
        auroc, brier, ece, log_loss: quality; the last three on held-out rows.
        informative: whether its log loss is clearly below that of the prior alone. If not, it never decides.
        isotonic: the curve that is used in place of the line, where held-out rows clearly preferred it.
        segments: what segments move the log-odds by, where held-out rows clearly preferred that.
        calibration_error: see `reliability.calibration_error`; None in files of the first format.
        intervals: of `auroc`, `brier` and `ece`: 95 %, by the bootstrap.
        reliability: the held-out rows' curve.
    """

    version: str
    model: str
    slope: float
    intercept: float
    prior: float
    rows: int
    auroc: float
    brier: float
    ece: float
    log_loss: float
    informative: bool
    tier: Tier | None = None
    isotonic: Isotonic | None = None
    segments: Mapping[str, Shift] = field(default_factory=dict)
    calibration_error: float | None = None
    intervals: Mapping[str, Bounds] = field(default_factory=dict)
    reliability: tuple[Bin, ...] = ()

    @property
    def curve(self) -> "Platt | Isotonic":
        """From raw score to probability, for all segments alike."""
        return self.isotonic or Platt(slope=self.slope, intercept=self.intercept)

    def probability(self, raw_score: float, segment: str | None = None) -> float:
        """Calibrated probability of *hallucinated*; an unknown segment has that of all."""
        overall = self.curve.probability(raw_score)
        shift = self.segments.get(segment) if segment is not None else None
        return overall if shift is None else sigmoid(shift.moved(float(log_odds(overall))))


def calibrate_judge(
    identity: JudgeIdentity,
    scores: Sequence[float],
    labels: Sequence[bool],
    *,
    segments: Sequence[str] | None = None,
) -> JudgeCalibration:
    """Fit one judge and measure it, cross-validated, on the rows on which it spoke.

    Platt scaling is preferred: the isotonic curve is taken where there are `LEAST_ISOTONIC_ROWS` and its held-out
    log loss is clearly lower. That choice is part of what is cross-validated: each fold's rows are judged by a
    choice made without them.

    Args:
        identity: whose scores they are.
        scores: raw scores, one a row.
        labels: True for hallucinated.
        segments: each row's segment, where segments shall be told apart.

    Raises:
        ValueError: too few rows, or too few of one label.
    """
    prior = sum(labels) / len(labels) if labels else 0.0
    if len(labels) < LEAST_ROWS or not 0.25 <= prior <= 0.75:  # noqa: PLR2004 - as LEAST_ROWS' docstring says
        raise ValueError(f"{len(labels)} rows, {prior:.0%} hallucinated: need {LEAST_ROWS}, and 25 % of either label")
    raw, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    target = positive.astype(np.float64)
    held_out = folds(positive)
    predicted = out_of_fold(choose_curve, raw, positive, held_out)
    reference = np.array([target[~_of(row, held_out)].mean() for row in range(len(target))])
    losses, line, chosen = log_losses(predicted, target), fit_platt(raw, positive), choose_curve(raw, positive)
    isotonic = chosen if isinstance(chosen, Isotonic) else None
    informative = clearly_lower(losses, log_losses(reference, target))
    overall = log_odds(chosen.probabilities(raw))
    shifts = fit_segments(overall, labels, segments) if segments is not None and informative else {}
    quality = {name: _measured(metric, predicted, positive) for name, metric in (("brier", brier), ("ece", ece))}
    quality["auroc"] = _measured(auroc, raw, positive)
    return JudgeCalibration(
        version=identity.version,
        model=identity.model,
        slope=_rounded(line.slope),
        intercept=_rounded(line.intercept),
        prior=_rounded(prior),
        rows=len(labels),
        auroc=quality["auroc"][0],
        brier=quality["brier"][0],
        ece=quality["ece"][0],
        log_loss=_rounded(float(losses.mean())),
        informative=informative,
        tier=identity.tier,
        isotonic=isotonic and _rounded_curve(isotonic),
        segments=shifts,
        calibration_error=_rounded(calibration_error(predicted, positive, held_out)),
        intervals={name: bounds for name, (_, bounds) in sorted(quality.items())},
        reliability=tuple(_rounded_bin(one) for one in reliability_curve(predicted, positive)),
    )


def choose_curve(scores: Floats, labels: Mask) -> Platt | Isotonic:
    """The line or the curve for these rows, by cross-validation; see `calibrate_judge`."""
    if len(scores) >= LEAST_ISOTONIC_ROWS:
        target, held_out = labels.astype(np.float64), folds(labels)
        line, curve = (
            log_losses(out_of_fold(fit, scores, labels, held_out), target) for fit in (fit_platt, fit_isotonic)
        )
        if clearly_lower(curve, line):
            return fit_isotonic(scores, labels)
    return fit_platt(scores, labels)


def out_of_fold(
    fit: Callable[[Floats, Mask], Platt | Isotonic], scores: Floats, labels: Mask, held_out: Sequence[Mask]
) -> Floats:
    """Each row's probability as fitted without the row's fold."""
    predicted = np.empty(len(labels))
    for held in held_out:
        predicted[held] = fit(scores[~held], labels[~held]).probabilities(scores[held])
    return predicted


def _of(row: int, held_out: Sequence[Mask]) -> Mask:
    return next(held for held in held_out if held[row])


def _measured(metric: Metric, values: ArrayLike, labels: Mask) -> tuple[float, Bounds]:
    found = bootstrap(metric, values, labels, seed=_SEED, samples=_SAMPLES)
    return _rounded(found.value), (_rounded(found.low), _rounded(found.high))


def _rounded(number: float) -> float:
    return round(float(number), DECIMALS) + 0.0


def _rounded_curve(curve: Isotonic) -> Isotonic:
    return Isotonic(scores=tuple(map(_rounded, curve.scores)), values=tuple(map(_rounded, curve.values)))


def _rounded_bin(one: Bin) -> Bin:
    return Bin(
        predicted=_rounded(one.predicted),
        observed=_rounded(one.observed),
        low=_rounded(one.low),
        high=_rounded(one.high),
        rows=one.rows,
    )
