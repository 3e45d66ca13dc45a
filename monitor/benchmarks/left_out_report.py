"""The left-out comparison as JSON and as tables: what fusion gains, what each judge adds, and what it costs."""

from collections.abc import Mapping
from typing import Any

from monitor.benchmarks.left_out import Fused
from monitor.benchmarks.report import cost_json, duration, interval_json, shown, table
from monitor.judging.bootstrap import Interval

TITLE = "AUROC on data sets that calibration, fusion and screen were fitted without"
COSTS = ("judge", "adds to the fusion of all", "s a trace", "tokens a trace", "USD/1000", "mean weight")


def left_out_json(fused: Fused) -> dict[str, Any]:
    """Everything, as a JSON value."""
    return {
        "rows": fused.rows,
        "rows_skipped": fused.skipped,
        "auroc": {name: _intervals(own) for name, own in fused.data_sets.items()},
        "mean_auroc": _intervals(fused.means),
        "best_single": fused.best_single,
        "gain_over_best_single": _intervals(fused.gains),
        "adds": _intervals(fused.adds),
        "weights": {name: dict(weights) for name, weights in fused.weights.items()},
        "costs": {judge: cost_json(cost) for judge, cost in fused.costs.items()},
    }


def _intervals(found: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval_json(one) for name, one in found.items()}


def quality_headings(fused: Fused) -> list[str]:
    """Of `quality_lines`."""
    return ["data set", *fused.judges, *fused.fusions]


def quality_lines(fused: Fused) -> list[list[str]]:
    """AUROC by data set, the mean, and each fusion's difference to the best single judge."""
    names = [*fused.judges, *fused.fusions]
    lines = [[data_set, *(shown(own[name]) for name in names)] for data_set, own in fused.data_sets.items()]
    lines.append(["mean", *(shown(fused.means[name]) for name in names)])
    gains = [signed(fused.gains[name]) if name in fused.gains else "" for name in names]
    return [*lines, [f"less {fused.best_single}", *gains]]


def cost_lines(fused: Fused) -> list[list[str]]:
    """What each judge adds to the others and what it takes, as `COSTS` names it."""
    lines = []
    for judge, cost in fused.costs.items():
        weights = [weights[judge] for weights in fused.weights.values()]
        lines.append(
            [
                judge,
                signed(fused.adds[judge]),
                duration(cost.mean_seconds),
                f"{cost.prompt_tokens + cost.completion_tokens:,.0f}",
                f"{cost.usd_per_1000_traces:.4f}",
                f"{sum(weights) / len(weights):.2f}",
            ]
        )
    return lines


def left_out_notes(fused: Fused) -> list[str]:
    """How to read the tables."""
    return [
        f"{fused.rows:,} rows on which all of {', '.join(fused.judges)} spoke; {fused.skipped:,} others are left out.",
        f"{fused.best_single} is the best single judge on these very data sets: nobody could have known before.",
        "In brackets: 95 % paired bootstrap intervals over rows; the data sets are as they are.",
    ]


def left_out_markdown(fused: Fused) -> str:
    """The comparison as a Markdown section."""
    told = "\n".join(f"- {note}" for note in left_out_notes(fused))
    return "\n\n".join(
        [
            f"## {TITLE}",
            table(quality_headings(fused), quality_lines(fused)),
            told,
            "## What each judge adds and costs",
            table(COSTS, cost_lines(fused)),
        ]
    )


def signed(found: Interval) -> str:
    """`+.012 (-.003 to +.027)`."""
    value, low, high = (f"{number:+.3f}".replace("0.", ".", 1) for number in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"
