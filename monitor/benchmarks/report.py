"""A ranking as JSON and as Markdown: the same scores give the same text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from monitor.benchmarks.figures import METRICS, Cost, Figures
from monitor.benchmarks.ranking import Fitted, Ranked
from monitor.judging.bootstrap import Interval

FORMAT = "groundwatch.bench.judge.v1"
HEADINGS = (
    "judge",
    "n",
    "AUROC",
    "balanced accuracy",
    "accuracy",
    "F1",
    "ECE",
    "unjudged",
    "USD/1000",
    "traces/s",
    "p50",
    "p95",
)
_DECIMALS = 6


def to_json(ranked: Sequence[Ranked]) -> dict[str, Any]:
    """The ranking as a JSON value; metrics with the ends of their 95 % intervals, or null where undefined."""
    return {
        "format": FORMAT,
        "judges": [
            {
                "rank": place,
                "judge": one.name,
                "version": one.identity.version,
                "model": one.identity.model,
                "probabilities_fitted_on": one.fitted.value,
                "rows_seen_in_training": one.seen,
                "mean": figures_json(one.mean),
                "pooled": figures_json(one.pooled),
                "data_sets": {name: figures_json(figures) for name, figures in one.data_sets.items()},
            }
            for place, one in enumerate(ranked, start=1)
        ],
    }


def figures_json(figures: Figures) -> dict[str, Any]:
    """Metrics and cost in one object."""
    return {name: interval_json(found) for name, found in figures.metrics.items()} | cost_json(figures.cost)


def cost_json(cost: Cost) -> dict[str, Any]:
    """Cost as a JSON object."""
    # Not asdict: it cannot copy a mapping proxy.
    plain = {name: getattr(cost, name) for name in Cost.__slots__} | {"reasons": dict(cost.reasons)}
    return {name: round(value, _DECIMALS) if isinstance(value, float) else value for name, value in plain.items()}


def interval_json(found: Interval | None) -> dict[str, float] | None:
    """Value, low and high."""
    return None if found is None else {name: round(value, _DECIMALS) for name, value in asdict(found).items()}


def cells(name: str, figures: Figures) -> list[str]:
    """One line of a table, as `HEADINGS` name it."""
    cost = figures.cost
    return [
        name,
        f"{cost.rows:,}",
        *(shown(figures.metrics[metric]) for metric in METRICS),
        f"{cost.unjudged:.1%}",
        f"{cost.usd_per_1000_traces:.4f}",
        "-" if cost.traces_per_second is None else f"{cost.traces_per_second:,.2f}",
        duration(cost.p50_seconds),
        duration(cost.p95_seconds),
    ]


def shown(found: Interval | None) -> str:
    """`.812 (.78-.84)`, or a dash."""
    if found is None:
        return "-"
    return f"{_short(found.value, 3)} ({_short(found.low, 2)}-{_short(found.high, 2)})"


def duration(seconds: float) -> str:
    """`0.4 ms`, `12.3 s`."""
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def _short(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}".replace("0.", ".", 1)


def notes(ranked: Sequence[Ranked]) -> list[str]:
    """What a reader must know before comparing: where thresholds come from, and who has seen the rows."""
    lines = [
        "AUROC is of raw scores. In brackets: 95 % bootstrap intervals over rows; the data sets are as they are.",
        *_fitted_notes(ranked),
    ]
    for one in ranked:
        if one.seen:
            lines.append(
                f"{one.name}: {one.seen:,} of its {one.pooled.cost.rows:,} rows were in its training, which flatters "
                "it: believe the comparison on left-out data sets (--left-out), where there is one."
            )
        if one.pooled.cost.unjudged:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in one.pooled.cost.reasons.items())
            lines.append(f"{one.name}: no score for {reasons}; its metrics are over the other rows.")
    return lines


_FITTED: Mapping[Fitted, str] = {
    Fitted.LEFT_OUT: "a calibration fitted on other collections of data sets",
    Fitted.FOLDS: "a calibration fitted on other contexts of the same data",
    Fitted.SETTINGS: "the calibration of the settings, which may have seen these data sets",
    Fitted.OWN: "the cascade's own probabilities, whose calibration may have seen these data sets",
}


def _fitted_notes(ranked: Sequence[Ranked]) -> list[str]:
    names: dict[Fitted, list[str]] = {}
    for one in ranked:
        names.setdefault(one.fitted, []).append(one.name)
    return [
        f"Balanced accuracy, accuracy, F1 and ECE of {', '.join(who)}: at 0.5 of {_FITTED[how]}."
        for how, who in names.items()
    ]


def to_markdown(ranked: Sequence[Ranked], *more: str) -> str:
    """The ranking as Markdown: means over the data sets, then `more` sections, then pooled, then each data set."""
    names = sorted({name for one in ranked for name in one.data_sets})
    sections = [
        ("All rows together", [(one.name, one.pooled) for one in ranked]),
        *((name, [(one.name, one.data_sets[name]) for one in ranked if name in one.data_sets]) for name in names),
    ]
    parts = [f"## {title}\n\n{table(HEADINGS, [cells(*line) for line in lines])}" for title, lines in sections]
    told = "\n".join(f"- {note}" for note in notes(ranked))
    versions = table(
        ("judge", "version", "model"), [(one.name, one.identity.version, one.identity.model) for one in ranked]
    )
    means = table(HEADINGS, [cells(one.name, one.mean) for one in ranked])
    first = ["# Judges, ranked by mean AUROC", told, f"## Mean over the data sets\n\n{means}"]
    return "\n\n".join([*first, *more, *parts, f"## Versions\n\n{versions}"]) + "\n"


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns after the first are numbers."""
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    ruler = ["---", *("---:" for _ in headings[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, ruler, *escaped))
