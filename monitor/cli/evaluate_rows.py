"""Rows to evaluate, and the lines that are written about them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monitor.cli.records import BadLine, Record, read_record
from monitor.config import EvaluatorSettings
from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.judgement import CouldNotJudge
from monitor.inference.loading import now
from monitor.judging.evaluation import Evaluation
from monitor.judging.evaluators import Case, Evaluator, Kind
from monitor.routing.evaluation import SelectedEvaluator, select_evaluators
from monitor.services.evaluating import Asked, rules_of


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadRow:
    """A row that cannot be asked about: it is no trace, or lacks what the evaluator needs."""

    id: str | None
    evaluator: Evaluator | None
    reason: DeadLetterReason
    detail: str

    def result(self) -> dict[str, Any]:
        """Its output line."""
        return {
            "id": self.id,
            "evaluator": self.evaluator and self.evaluator.name,
            "evaluator_version": self.evaluator and self.evaluator.version,
            "outcome": "dead_letter",
            "score": None,
            "reason": self.reason.value,
            "detail": self.detail,
        }


def read_asked(
    lines: Iterator[bytes], declared: Mapping[str, Evaluator], chosen: list[str] | None, settings: EvaluatorSettings
) -> Iterator[Asked | DeadRow]:
    """What to ask about each line, in order; a line that no rule chooses gives nothing.

    Args:
        lines: JSON, each.
        declared: all evaluators, by name.
        chosen: those for every line; None to go by the settings' rules.
        settings: the rules.
    """
    rules = rules_of(settings)
    every = tuple(SelectedEvaluator(name=name, inclusion_probability=1.0) for name in chosen or ())
    moment = now()
    for number, line in enumerate(lines, start=1):
        record = read_record(line, number=number, now=moment)
        if isinstance(record, BadLine):
            detail = f"{record.field}: {record.problem}"
            yield DeadRow(id=record.id, evaluator=None, reason=record.reason, detail=detail)
            continue
        case = _case(record, line)
        for one in select_evaluators(record.trace, rules) if chosen is None else every:
            yield _asked(record.id, declared[one.name], case, one.inclusion_probability)


def _asked(name: str, evaluator: Evaluator, case: Case | str, inclusion_probability: float) -> Asked | DeadRow:
    if isinstance(case, str):
        return DeadRow(id=name, evaluator=evaluator, reason=DeadLetterReason.INVALID, detail=case)
    if (field := evaluator.lacks(case)) is not None:
        detail = f"{field}: is missing; {evaluator.name} needs it"
        return DeadRow(id=name, evaluator=evaluator, reason=DeadLetterReason.INVALID, detail=detail)
    return Asked(id=name, evaluator=evaluator, case=case, inclusion_probability=inclusion_probability)


def _case(record: Record, line: bytes) -> Case | str:
    """A record with what evaluators read besides; or what is wrong with that."""
    row = json.loads(line)
    for field in ("reference", "answer_b"):
        if not isinstance(row.get(field), str | None):
            return f"{field}: is no text"
    return Case(trace=record.trace, reference=row.get("reference"), other_answer=row.get("answer_b"))


def result_of(asked: Asked, said: Evaluation | CouldNotJudge, *, model: str) -> dict[str, Any]:
    """The output line for one case."""
    result: dict[str, Any] = {
        "id": asked.id,
        "evaluator": asked.evaluator.name,
        "evaluator_version": asked.evaluator.version,
        "model": model,
        "inclusion_probability": asked.inclusion_probability,
    }
    if isinstance(said, CouldNotJudge):
        failed = {"outcome": "could_not_judge", "score": None}
        return result | failed | {"reason": said.reason.value, "detail": said.detail}
    score, usage = said.score, said.usage
    result |= {
        "outcome": "scored",
        "score": score.native,
        "normalised": score.normalised,
        "justification": score.justification,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost_usd": usage.cost_usd,
    }
    return result | {"favoured": score.favoured} if asked.evaluator.kind is Kind.PAIRWISE else result
