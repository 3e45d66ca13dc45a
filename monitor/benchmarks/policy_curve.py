"""What a cascade costs and gets right at every share of calls: as its fit predicts, and as it turns out on other rows.

Rows are judged by a calibration that was fitted without them, fold by fold; a judge is asked first where that is
expected to avoid most loss. So each point of the curve has a prediction and a realised figure with an interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from monitor.domain.judgement import JudgeIdentity
from monitor.judging.bootstrap import Interval, interval
from monitor.judging.calibration import Calibration
from monitor.judging.calibration_fit import fit_calibration, fused_odds
from monitor.judging.crossval import folds
from monitor.judging.odds import Floats
from monitor.judging.prospects import Prospect
from monitor.routing.value import Costs

Scores = Sequence[Sequence[float | None]]
Mask = NDArray[np.bool_]

_SAMPLES = 1000

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


@dataclass(frozen=True, slots=True)
class Cases:
    """Rows before one judge may be asked; probabilities of *hallucinated* from fits that did not see them.

    Attributes:
        before, after: without and with that judge.
        prospects: what would remain wrong, as the fit expects it.
    """

    labels: Mask
    before: Floats
    after: Floats
    prospects: tuple[Prospect, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Economy:
    """What is at stake.

    Attributes:
        costs: of errors.
        call: of asking the judge once.
        threshold: an answer is called hallucinated from this probability on.
    """

    costs: Costs
    call: float
    threshold: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """The cascade at one share of calls.

    Attributes:
        share: of the rows, sent to the judge.
        bar: what a call must be expected to avoid; rows above it are sent.
        predicted_cost, cost: loss and price of calls a row, expected and realised.
        predicted_balanced_accuracy, balanced_accuracy: likewise.
        retained: the realised balanced accuracy over that of asking always.
    """

    share: float
    bar: float
    predicted_cost: float
    cost: Interval
    predicted_balanced_accuracy: float
    balanced_accuracy: Interval
    retained: float


def held_out_cases(
    identities: Sequence[JudgeIdentity], scores: Scores, labels: Sequence[bool], *, threshold: float
) -> Cases:
    """The last of the judges is the one that may be asked, the others have spoken on every row.

    Rows on which any of them was silent are left out.

    Raises:
        ValueError: too few rows to fit on, or no fit knows what the last judge adds: it or all others say nothing.
    """
    spoke = [row for row in range(len(labels)) if all(column[row] is not None for column in scores)]
    columns = [np.array([column[row] for row in spoke], dtype=np.float64) for column in scores]
    positive = np.array([labels[row] for row in spoke], dtype=bool)
    before, after = np.empty(len(spoke)), np.empty(len(spoke))
    prospects: dict[int, Prospect] = {}
    for held in folds(positive):
        known = [column[~held].tolist() for column in columns]
        fitted = fit_calibration(identities, known, positive[~held].tolist())
        said = {one.version: column[held] for one, column in zip(identities, columns, strict=True)}
        cases = cases_of(fitted, said, positive[held], asked=identities[-1].version, threshold=threshold)
        before[held], after[held] = cases.before, cases.after
        prospects |= dict(zip(np.flatnonzero(held).tolist(), cases.prospects, strict=True))
    return Cases(positive, before, after, tuple(prospects[row] for row in range(len(spoke))))


def cases_of(fitted: Calibration, scores: Mapping[str, Floats], labels: Mask, *, asked: str, threshold: float) -> Cases:
    """Rows that the calibration was not fitted on, as it sees them before and after asking one judge.

    Args:
        fitted: must know the judges.
        scores: raw, by judge version, one a row.
        labels: True for *hallucinated*.
        asked: version of the judge that may be asked; the others have spoken.
        threshold: an answer is called hallucinated from this probability on.

    Raises:
        ValueError: no fit knows what the asked judge adds.
    """
    said = {version: fitted.judges[version].curve.probabilities(column) for version, column in scores.items()}
    given = {version: column for version, column in said.items() if version != asked}
    old, new = fused_odds(fitted, given), fused_odds(fitted, said)
    names = tuple(sorted(given))
    transition = next((one for one in fitted.transitions if (one.given, one.asked) == (names, asked)), None)
    if transition is None or old is None or new is None:
        raise ValueError(f"nothing tells what asking {asked} adds to {', '.join(names)}")
    before, after = _probabilities(old), _probabilities(new)
    misses, false_alarms = transition.prospects(before, threshold)
    pairs = zip(misses, false_alarms, strict=True)
    return Cases(labels, before, after, tuple(Prospect(miss=float(m), false_alarm=float(f)) for m, f in pairs))


def _probabilities(odds: Floats) -> Floats:
    return np.asarray(expit(odds))


def curve(cases: Cases, economy: Economy, *, shares: Sequence[float] = SHARES, seed: int = 0) -> list[Point]:
    """The points at these shares of calls.

    Args:
        cases: see `held_out_cases`; made for the same threshold.
        economy: what is at stake.
        shares: of the rows that are sent, 0 to 1.
        seed: of the bootstrap.
    """
    values = values_of(cases, economy)
    return [_point(cases, values, price_of(values, share), economy, seed) for share in shares]


def point_at(cases: Cases, economy: Economy, bar: float, *, seed: int = 0) -> Point:
    """The point where every row is sent whose value is above the bar; see `curve`."""
    return _point(cases, values_of(cases, economy), bar, economy, seed)


def values_of(cases: Cases, economy: Economy) -> Floats:
    """What asking about each row is expected to avoid."""
    rows = zip(cases.before, cases.prospects, strict=True)
    return np.array([economy.costs.value(float(p), economy.threshold, prospect) for p, prospect in rows])


def _point(cases: Cases, values: Floats, bar: float, economy: Economy, seed: int) -> Point:
    asked = values > bar
    cost, balanced = _realised(cases, asked, economy, seed)
    predicted_cost, predicted_balanced = _predicted(cases, asked, economy)
    always = _realised(cases, np.ones(len(values), dtype=bool), economy, seed)[1].value
    return Point(
        share=float(asked.mean()),
        bar=bar,
        predicted_cost=predicted_cost,
        cost=cost,
        predicted_balanced_accuracy=predicted_balanced,
        balanced_accuracy=balanced,
        retained=balanced.value / always,
    )


def price_of(values: Floats, share: float) -> float:
    """The bar that no more than `share` of the values exceed (the multiplier of the budget's constraint)."""
    ordered = np.sort(values)[::-1]
    most = int(share * len(ordered) + 1e-9)
    # Asking everyone means those, too, for whom nothing is expected of it.
    return -1.0 if most >= len(ordered) else float(ordered[most])


def _realised(cases: Cases, asked: Mask, economy: Economy, seed: int) -> tuple[Interval, Interval]:
    """Cost and balanced accuracy, by a bootstrap within each label.

    All that a row contributes is whether its verdict is wrong and whether the judge was asked: so many rows of each
    of these kinds are drawn, instead of the rows themselves.
    """
    wrong = (np.where(asked, cases.after, cases.before) >= economy.threshold) != cases.labels
    kinds = 2 * wrong + asked
    draw = np.random.default_rng(seed)
    totals, rights = [], []
    for label, loss in ((True, economy.costs.miss), (False, economy.costs.false_alarm)):
        counts = np.bincount(kinds[cases.labels == label], minlength=4)
        drawn = np.vstack([counts, draw.multinomial(counts.sum(), counts / counts.sum(), size=_SAMPLES)])
        totals.append(drawn @ np.array([0.0, economy.call, loss, loss + economy.call]))
        rights.append((drawn[:, 0] + drawn[:, 1]) / counts.sum())
    # The first row of each is what was found, the others are what was drawn.
    cost, balanced = sum(totals) / len(kinds), sum(rights) / 2.0
    return interval(float(cost[0]), cost[1:]), interval(float(balanced[0]), balanced[1:])


def _predicted(cases: Cases, asked: Mask, economy: Economy) -> tuple[float, float]:
    alarm, costs = cases.before >= economy.threshold, economy.costs
    misses = np.where(asked, [one.miss for one in cases.prospects], np.where(alarm, 0.0, cases.before))
    alarms = np.where(asked, [one.false_alarm for one in cases.prospects], np.where(alarm, 1.0 - cases.before, 0.0))
    cost = costs.miss * misses.mean() + costs.false_alarm * alarms.mean() + economy.call * asked.mean()
    hallucinated = cases.before.mean()
    balanced = 1.0 - (misses.mean() / hallucinated + alarms.mean() / (1.0 - hallucinated)) / 2.0
    return float(cost), float(balanced)
