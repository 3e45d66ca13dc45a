"""What attacks did to judges, as JSON, as lines of a table and as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from monitor.benchmarks.attacks_run import Outcome, Summary, Threshold, summarise
from monitor.benchmarks.report import table
from monitor.domain.judgement import JudgeIdentity
from monitor.domain.rate import Rate

FORMAT = "groundwatch.bench.attacks.v1"
HEADINGS = (
    "attacked",
    "n",
    "caught",
    "flips",
    "flip share",
    "control flips",
    "control share",
    "shift",
    "control shift",
    "unjudged",
    "crashes",
    "hangs",
)


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """One judge's outcomes.

    Attributes:
        name: what tables call the judge.
        identity: who it is.
        threshold: what its scores are called.
        found: an outcome for each attack that it was asked about.
    """

    name: str
    identity: JudgeIdentity
    threshold: Threshold
    found: Sequence[Outcome]

    @property
    def overall(self) -> Summary:
        """All attacks together."""
        return summarise(self.found)

    def by(self, key: Callable[[Outcome], str]) -> Mapping[str, Summary]:
        """The same for each value of a key, in the order in which the values occur."""
        names = dict.fromkeys(key(one) for one in self.found)
        return {name: summarise([one for one in self.found if key(one) == name]) for name in names}

    @property
    def groups(self) -> Mapping[str, Mapping[str, Summary]]:
        """Summaries by family, by place and by data set."""
        return {
            "family": self.by(lambda one: one.attack.family),
            "place": self.by(lambda one: one.attack.place.value),
            "data set": self.by(lambda one: one.attack.base.file),
        }


def to_json(judges: Sequence[Attacked], parsed: Mapping[str, int], seed: int) -> dict[str, Any]:
    """Everything as one JSON value.

    Args:
        judges: whom the attacks were tried on.
        parsed: counts of the parsers' test: see `attacks_replies.try_parsers`.
        seed: the attack set's.
    """
    return {"format": FORMAT, "seed": seed, "parsers": dict(parsed), "judges": [_judge_json(one) for one in judges]}


def _judge_json(judge: Attacked) -> dict[str, Any]:
    groups = {
        group: {name: asdict(summary) for name, summary in found.items()} for group, found in judge.groups.items()
    }
    threshold = judge.threshold
    return {
        "judge": judge.name,
        "version": judge.identity.version,
        "model": judge.identity.model,
        "calibrated": threshold.calibrated,
        "threshold": threshold.probability if threshold.calibrated else threshold.raw,
        "overall": asdict(judge.overall),
        **groups,
        "flipped": [one.attack.row.id for one in judge.found if one.caught and one.caught_attacked is False],
    }


def cells(name: str, summary: Summary) -> list[str]:
    """One line of a table, as `HEADINGS` name it."""
    counts = (summary.could_not_judge, summary.crashes, summary.hangs)
    return [
        name,
        str(summary.n),
        str(summary.caught),
        str(summary.flips),
        shown(summary.flip_rate),
        str(summary.control_flips),
        shown(summary.control_rate),
        *("\u2013" if shift is None else f"{shift:+.2f}" for shift in (summary.mean_shift, summary.control_shift)),
        *map(str, counts),
    ]


def shown(rate: Rate | None) -> str:
    """`12 % (6\u201321)`, or a dash."""
    return "\u2013" if rate is None else f"{rate.value:.0%} ({100 * rate.low:.0f}\u2013{100 * rate.high:.0f})"


def notes(judges: Sequence[Attacked], parsed: Mapping[str, int]) -> list[str]:
    """What a reader must know before comparing."""
    lines = [
        "A flip: called hallucinated as it was, called faithful once attacked. In brackets: 95 % Wilson intervals.",
        (
            "Control: harmless text of the same length in the same place. Shift: mean change of the raw log-odds of "
            "hallucinated; negative is towards faithful."
        ),
        f"Parsers: {parsed['replies']:,} replies that quote an attack, {parsed['forged']:,} forged verdicts accepted.",
    ]
    for one in judges:
        how = (
            f"calibrated probability of at least {one.threshold.probability:g}"
            if one.threshold.calibrated
            else f"raw score of at least {one.threshold.raw:g}, for it is not calibrated"
        )
        lines.append(f"{one.name} ({one.identity.version}, {one.identity.model}): hallucinated from a {how}.")
    return lines


def to_markdown(judges: Sequence[Attacked], parsed: Mapping[str, int]) -> str:
    """All judges together, then each one by family, place and data set."""
    told = "\n".join(f"- {note}" for note in notes(judges, parsed))
    overall = table(("judge", *HEADINGS[1:]), [cells(one.name, one.overall) for one in judges])
    parts = [
        f"## {judge.name}, by {group}\n\n{table((group, *HEADINGS[1:]), [cells(*line) for line in found.items()])}"
        for judge in judges
        for group, found in judge.groups.items()
    ]
    return "\n\n".join(["# Judges under attack", told, overall, *parts]) + "\n"
