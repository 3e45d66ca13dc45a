"""The comparison with other libraries, as JSON and as tables."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from monitor.benchmarks.peers import Answer
from monitor.benchmarks.report import duration, table
from monitor.judging.metrics import auroc

FORMAT = "groundwatch.bench.peers.v1"
HEADINGS = (
    "judge",
    "traces",
    "no score",
    "calls a trace",
    "prompt tokens",
    "completion tokens",
    "s a trace",
    "p95",
    "AUROC",
    "times ours",
)
_DECIMALS = 4
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contestant:
    """One judge, its version and its answers.

    Attributes:
        ours: whether others' seconds are compared with it; True for exactly one.
    """

    name: str
    version: str
    answers: Sequence[Answer]
    ours: bool = False


def summary(one: Contestant, reference: Contestant) -> dict[str, Any]:
    """Means a trace, over all traces: those without a score took their time, too."""
    seconds = np.array([answer.seconds for answer in one.answers])
    scored = [answer for answer in one.answers if answer.score is not None]
    labels = [answer.hallucinated for answer in scored]
    ours = np.array([answer.seconds for answer in reference.answers])
    measurable = any(labels) and not all(labels)
    figures = {
        "no_score": 1.0 - len(scored) / len(one.answers),
        "calls": _mean(one, "calls"),
        "calls_refused": _mean(one, "refused"),
        "prompt_tokens": _mean(one, "prompt_tokens"),
        "completion_tokens": _mean(one, "completion_tokens"),
        "seconds": float(seconds.mean()),
        "p95_seconds": float(np.quantile(seconds, 0.95)),
        "auroc": auroc([answer.score or 0.0 for answer in scored], labels) if measurable else None,
        "seconds_times_ours": float(seconds.mean() / ours.mean()),
    }
    rounded = {name: value if value is None else round(value, _DECIMALS) for name, value in figures.items()}
    return {"judge": one.name, "version": one.version, "traces": len(one.answers), "scored": len(scored), **rounded}


def _mean(one: Contestant, name: str) -> float:
    return float(np.mean([getattr(answer, name) for answer in one.answers]))


def to_json(contestants: Sequence[Contestant], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Summaries, every answer, and the facts that figures mean nothing without: server, machine, limits."""
    reference = next(one for one in contestants if one.ours)
    return {
        "format": FORMAT,
        **facts,
        "judges": [
            {**summary(one, reference), "answers": [asdict(answer) for answer in one.answers]} for one in contestants
        ],
    }


def lines(result: Mapping[str, Any]) -> list[list[str]]:
    """Lines of a table, as `HEADINGS` names it."""
    return [
        [
            one["judge"],
            str(one["traces"]),
            f"{one['no_score']:.0%}",
            f"{one['calls']:.1f}",
            f"{one['prompt_tokens']:,.0f}",
            f"{one['completion_tokens']:,.0f}",
            duration(one["seconds"]),
            duration(one["p95_seconds"]),
            "-" if one["auroc"] is None else f"{one['auroc']:.3f} ({one['scored']} traces)",
            f"{one['seconds_times_ours']:.1f}",
        ]
        for one in result["judges"]
    ]


def to_markdown(result: Mapping[str, Any]) -> str:
    """The table, and why traces have no score."""
    parts = [table(HEADINGS, lines(result))]
    for one in result["judges"]:
        errors = Counter(_kind(answer["error"]) for answer in one["answers"] if answer["error"])
        parts += [
            f"{one['judge']} without a score, {count} of them: {error}" for error, count in sorted(errors.items())
        ]
    return "\n\n".join(parts) + "\n"


def _kind(error: str) -> str:
    """An error's first line, without the addresses that make each one look different."""
    return _ADDRESS.sub("", error.split("\n", maxsplit=1)[0])
