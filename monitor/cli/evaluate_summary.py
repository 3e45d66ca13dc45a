"""What a run of `groundwatch evaluate` comes to: counts and means by evaluator, and what it took."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any


class EvaluationTally:
    """Counts results as they pass."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._by_evaluator: dict[str, _OfOne] = {}
        self._unread: Counter[str] = Counter()
        self._prompt_tokens = self._completion_tokens = 0
        self._cost = 0.0

    def add(self, result: Mapping[str, Any]) -> None:
        """Count one output line."""
        self._outcomes[result["outcome"]] += 1
        if result["evaluator"] is None:
            self._unread[result["reason"]] += 1
            return
        self._by_evaluator.setdefault(result["evaluator"], _OfOne(result["evaluator_version"])).add(result)
        self._prompt_tokens += result.get("prompt_tokens", 0)
        self._completion_tokens += result.get("completion_tokens", 0)
        self._cost += result.get("cost_usd", 0.0)

    def summary(self, seconds: float) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "scored": self._outcomes["scored"],
            "could_not_judge": self._outcomes["could_not_judge"],
            "dead_letters": self._outcomes["dead_letter"],
            "unreadable": dict(self._unread),
            "evaluators": {name: each.summary() for name, each in sorted(self._by_evaluator.items())},
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
            "cost_usd": self._cost,
            "seconds": round(seconds, 3),
        }

    @staticmethod
    def lines(summary: Mapping[str, Any]) -> Iterator[str]:
        """The same for people."""
        counts = "{scored} scored, {could_not_judge} not judged, {dead_letters} dead letters in {seconds:.1f} s"
        yield counts.format_map(summary)
        for name, each in summary["evaluators"].items():
            mean = "none scored" if each["mean"] is None else f"mean {each['mean']:.2f} of {each['scored']}"
            details = (f"{what} {count}" for kind in ("pairs", "reasons") for what, count in sorted(each[kind].items()))
            yield "; ".join((f"  {name}: {mean}", *details))
        for reason, count in sorted(summary["unreadable"].items()):
            yield f"  {reason}: {count}"


class _OfOne:
    """One evaluator's results."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._scores: list[float] = []
        self._reasons: Counter[str] = Counter()
        self._pairs: Counter[str] = Counter()

    def add(self, result: Mapping[str, Any]) -> None:
        if result["outcome"] != "scored":
            self._reasons[result["reason"]] += 1
            return
        self._scores.append(result["normalised"])
        if "favoured" in result:
            self._pairs[f"{result['score']}"] += 1
            if result["favoured"]:
                self._pairs[f"favours the {result['favoured']}"] += 1

    def summary(self) -> dict[str, Any]:
        return {
            "version": self._version,
            "scored": len(self._scores),
            "mean": sum(self._scores) / len(self._scores) if self._scores else None,
            "pairs": dict(self._pairs),
            "reasons": dict(self._reasons),
        }
