"""Evaluators beyond faithfulness at work: which there are, and many cases at once through one engine."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from monitor.config import EvaluatorSettings
from monitor.domain.errors import InvalidSettings
from monitor.domain.generation import Generator
from monitor.domain.judgement import CouldNotJudge
from monitor.evaluator_files import load_evaluators
from monitor.judging.evaluation import Evaluation, evaluate
from monitor.judging.evaluators import Case, Evaluator
from monitor.resources import resource
from monitor.routing.evaluation import EvaluatorRule


def declared_evaluators(settings: EvaluatorSettings) -> Mapping[str, Evaluator]:
    """The evaluators that the settings name, by name.

    Raises:
        InvalidSettings: a declaration is not valid, or a rule names an evaluator that is not declared.
    """
    found = load_evaluators(settings.directory or resource("schemas") / "evaluators")
    for number, rule in enumerate(settings.rules):
        for name in rule.evaluators:
            if name not in found:
                there = ", ".join(found) or "none"
                raise InvalidSettings(f"evaluators.rules[{number}]: no evaluator is called {name!r}; there are {there}")
    return found


def rules_of(settings: EvaluatorSettings) -> tuple[EvaluatorRule, ...]:
    """The settings' rules, for `select_evaluators`."""
    return tuple(
        EvaluatorRule(services=rule.services, evaluators=rule.evaluators, share=rule.share) for rule in settings.rules
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One case for one evaluator.

    Attributes:
        id: the row's.
        inclusion_probability: the probability with which such a trace is chosen for this evaluator.
    """

    id: str
    evaluator: Evaluator
    case: Case
    inclusion_probability: float


Answered = tuple[Asked, Evaluation | CouldNotJudge]


async def evaluate_all(
    asked: Iterable[Asked], generator: Generator, *, at_once: int, deadline_seconds: float
) -> AsyncIterator[Answered]:
    """A result for each case, in order; `at_once` of them are under way, so that memory is bounded.

    Args:
        asked: read only as far as there is room.
        generator: the engine.
        at_once: cases under way together.
        deadline_seconds: for each case.
    """
    under_way: deque[tuple[Asked, asyncio.Task[Evaluation | CouldNotJudge]]] = deque()
    try:
        for one in asked:
            work = evaluate(one.evaluator, one.case, generator, deadline_seconds=deadline_seconds)
            under_way.append((one, asyncio.create_task(work)))
            if len(under_way) >= at_once:
                first, task = under_way.popleft()
                yield first, await task
        while under_way:
            first, task = under_way.popleft()
            yield first, await task
    finally:
        for _, task in under_way:
            task.cancel()
        for _, task in under_way:
            with suppress(asyncio.CancelledError):
                await task
