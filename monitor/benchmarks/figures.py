"""What one judge's scores on labelled rows come to, with intervals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from monitor.benchmarks.scores import Score
from monitor.judging.bootstrap import Interval, Metric, draws, interval
from monitor.judging.metrics import accuracy, auroc, balanced_accuracy, ece, f1
from monitor.training.rows import Row

THRESHOLD = 0.5
SAMPLES = 1000
METRICS = ("auroc", "balanced_accuracy", "accuracy", "f1", "ece")
_METRICS: Mapping[str, Metric] = MappingProxyType(
    {"auroc": auroc, "balanced_accuracy": balanced_accuracy, "accuracy": accuracy, "f1": f1, "ece": ece}
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """One row, one judge's word on it, and the probability that a calibration makes of it.

    Attributes:
        probability: of *hallucinated*; None where the judge could not judge, or nothing could be fitted.
    """

    row: Row
    score: Score
    probability: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What judging took.

    Attributes:
        rows: that were asked about.
        unjudged: share of them without a score.
        reasons: why, with how many.
        usd_per_1000_traces: by the settings' prices.
        prompt_tokens, completion_tokens: a trace.
        traces_per_second: as it was run; None where no time was kept.
        mean_seconds, p50_seconds, p95_seconds: from question to answer.
    """

    rows: int
    unjudged: float
    reasons: Mapping[str, int]
    usd_per_1000_traces: float
    prompt_tokens: float
    completion_tokens: float
    traces_per_second: float | None
    mean_seconds: float
    p50_seconds: float
    p95_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Quality and cost on some rows.

    Attributes:
        metrics: by name (`METRICS`), with 95 % bootstrap intervals; None where it is not defined, as AUROC is where
            one of the labels is missing. Only rows that the judge could judge count: see `cost.unjudged`.
    """

    metrics: Mapping[str, Interval | None]
    cost: Cost


def measured(answers: Sequence[Answered], *, seed: int = 0, samples: int = SAMPLES) -> Figures:
    """Figures over all the rows together; those of one data set are drawn anew within it.

    Raises:
        ValueError: there are no answers.
    """
    found = {name: _drawn(name, answers, seed=seed, samples=samples) for name in METRICS}
    return Figures(
        metrics=MappingProxyType({name: _bounds(one) for name, one in found.items()}),
        cost=cost_of([one.score for one in answers]),
    )


def averaged(parts: Sequence[Sequence[Answered]], *, seed: int = 0, samples: int = SAMPLES) -> Figures:
    """Figures whose metrics are means over data sets, each counting as much as any other.

    Rows are drawn anew within each data set, the data sets are not: the intervals speak of these data sets.
    A metric that one of them lacks has no mean.
    """
    means: dict[str, Interval | None] = {}
    for name in METRICS:
        found = [_drawn(name, part, seed=seed + place, samples=samples) for place, part in enumerate(parts)]
        known = [one for one in found if one is not None]
        means[name] = None
        if len(known) == len(parts):
            values, drawn = zip(*known, strict=True)
            means[name] = interval(float(np.mean(values)), np.asarray(np.mean(drawn, axis=0)))
    return Figures(metrics=MappingProxyType(means), cost=cost_of([one.score for part in parts for one in part]))


def _drawn(name: str, answers: Sequence[Answered], *, seed: int, samples: int) -> tuple[float, Floats] | None:
    """A metric's value and draws; None where it is not defined."""
    told = [(_value(name, one), one.row) for one in answers]
    values = np.array([value for value, _ in told if value is not None], dtype=np.float64)
    labels = np.array([row.hallucinated for value, row in told if value is not None], dtype=bool)
    strata = [row.file for value, row in told if value is not None]
    if not labels.any() or labels.all():
        return None
    metric = _METRICS[name]
    return metric(values, labels), draws(metric, values, labels, seed=seed, samples=samples, strata=strata)


def _value(name: str, one: Answered) -> float | None:
    if name == "auroc":
        return one.score.score
    if one.probability is None or name == "ece":
        return one.probability
    return float(one.probability >= THRESHOLD)


def _bounds(found: tuple[float, Floats] | None) -> Interval | None:
    return None if found is None else interval(*found)


def cost_of(scores: Sequence[Score]) -> Cost:
    """What the answers took; raises ValueError when there are none."""
    if not scores:
        raise ValueError("there are no answers")
    silent = [score.reason or "" for score in scores if score.score is None]
    busy = sum(score.busy_seconds for score in scores)
    seconds = np.array([score.seconds for score in scores])
    return Cost(
        rows=len(scores),
        unjudged=len(silent) / len(scores),
        reasons=MappingProxyType({reason: silent.count(reason) for reason in sorted(set(silent))}),
        usd_per_1000_traces=1000.0 * _mean(score.cost_usd for score in scores),
        prompt_tokens=_mean(score.prompt_tokens for score in scores),
        completion_tokens=_mean(score.completion_tokens for score in scores),
        traces_per_second=len(scores) / busy if busy > 0 else None,
        mean_seconds=float(seconds.mean()),
        p50_seconds=float(np.median(seconds)),
        p95_seconds=float(np.quantile(seconds, 0.95)),
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
