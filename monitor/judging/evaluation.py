"""Evaluating one case: ask an engine what the evaluator wants to know, and read what comes back."""

import asyncio
from dataclasses import dataclass

from monitor.domain.generation import Generated, Generator
from monitor.domain.judgement import CouldNotJudge, Unjudgeable, Usage
from monitor.judging.evaluators import Case, Evaluator, Score

_EXCERPT = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A score and its price. Tokens count every call; an engine that does not tell counts 0."""

    score: Score
    usage: Usage


async def evaluate(
    evaluator: Evaluator, case: Case, generator: Generator, *, deadline_seconds: float
) -> Evaluation | CouldNotJudge:
    """Evaluate one case that lacks nothing (`Evaluator.lacks`); raises nothing for the case's sake.

    The calls of a pair are made at the same time, each within the deadline. Where one call fails the case could not
    be judged: half of a comparison is no comparison.
    """
    if (reason := evaluator.why_unjudgeable(case)) is not None:
        return reason
    said = await asyncio.gather(
        *(
            generator.generate(
                prompt,
                max_tokens=evaluator.max_tokens,
                json_schema=evaluator.family.reply_schema,
                deadline_seconds=deadline_seconds,
            )
            for prompt in evaluator.prompts(case)
        )
    )
    replies: list[Generated] = []
    for one in said:
        if isinstance(one, CouldNotJudge):
            return one
        replies.append(one)
    score = evaluator.read([reply.text for reply in replies])
    if score is None:
        return _unparseable(evaluator, replies)
    usage = Usage(
        prompt_tokens=sum(reply.prompt_tokens for reply in replies),
        completion_tokens=sum(reply.completion_tokens for reply in replies),
        cost_usd=sum(reply.cost_usd for reply in replies),
    )
    return Evaluation(score=score, usage=usage)


def _unparseable(evaluator: Evaluator, replies: list[Generated]) -> CouldNotJudge:
    ends = " and ".join(f"{'(cut off) ' if reply.cut_off else ''}…{reply.text[-_EXCERPT:]!r}" for reply in replies)
    return CouldNotJudge(
        reason=Unjudgeable.UNPARSEABLE, detail=f"no {evaluator.family.keys[1].lower()} on its scale in {ends}"
    )
