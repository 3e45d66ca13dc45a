import asyncio
from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Opinion, Tier, Unjudgeable
from monitor.domain.trace import Document, Origin, Trace
from monitor.domain.verdict import Action, Label, Verdict
from monitor.inference.cascade import Cascade
from monitor.judging.calibration import Calibration, JudgeCalibration
from monitor.routing.policy import Policy
from monitor.services.offline import OfflineCascade

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Says:
    """Says the number that the answer gives it by name."""

    def __init__(self, name, tier):
        self.identity = JudgeIdentity(name=name, tier=tier, model=name, model_digest="d")
        self.asked = []

    def word(self, trace):
        self.asked.append(trace.trace_id)
        word = dict(part.split("=") for part in trace.answer.split())[self.identity.name]
        return CouldNotJudge(reason=Unjudgeable(word)) if word in set(Unjudgeable) else Opinion(raw_score=float(word))

    def judge_many(self, traces, *, deadline_seconds, explain=None):  # noqa: ARG002 - the port's signature
        return [self.word(trace) for trace in traces]


class AsksLater(Says):
    async def judge(self, trace):
        await asyncio.sleep(0)
        return self.word(trace)


def fitted(judge):
    values = {"slope": 1.0, "intercept": 0.0, "prior": 0.5, "rows": 100, "auroc": 0.8, "brier": 0.2, "ece": 0.1}
    log_loss = 0.3 if judge.identity.tier is Tier.POOL else 0.5
    return JudgeCalibration(
        version=judge.identity.version, model=judge.identity.model, log_loss=log_loss, informative=True, **values
    )


def item(name, answer):
    trace = Trace(
        trace_id=name,
        event_time=NOW,
        tenant="acme",
        service="help",
        environment="production",
        question="?",
        documents=(Document(id="1", text="text"),),
        answer=answer,
    )
    return trace, Origin(topic="offline", partition=0, offset=0)


@pytest.fixture
def runner():
    with asyncio.Runner() as runner:
        yield runner


def whole(runner, screen, pool, **policy):
    chosen = Policy(escalates=True, escalate_unsure_share=1.0, audit_share=0.0, **policy)
    judges = [screen, *([pool] if pool else [])]
    calibration = Calibration(judges=MappingProxyType({one.identity.version: fitted(one) for one in judges}))
    cascade = Cascade(screen=screen, edge=None, calibration=calibration, policy=chosen, clock=lambda: NOW)
    return OfflineCascade(cascade=cascade, pool=pool, calibration=calibration, policy=chosen, runner=runner)


def test_the_pool_revises_what_is_escalated_and_sees_nothing_else(runner):
    screen, pool = Says("screen", Tier.SCREEN), AsksLater("pool", Tier.POOL)
    offline = whole(runner, screen, pool)
    sure, unsure = offline.assess([item("sure", "screen=5 pool=-9"), item("unsure", "screen=0.1 pool=-4")])
    assert pool.asked == ["unsure"]
    assert (sure.decision.action, unsure.decision.action) == (Action.ACCEPT, Action.ESCALATE)
    assert [one.judge.name for one in sure.judgements] == ["screen"]
    assert [one.judge.name for one in unsure.judgements] == ["screen", "pool"]
    assert unsure.judgements[1].inclusion_probability == 1.0
    assert unsure.judgements[1].chosen_because == "unsure"
    assert isinstance(unsure.outcome, Verdict)
    assert unsure.outcome.label is Label.FAITHFUL
    assert unsure.outcome.decided_by == (pool.identity.version,)
    assert [judge.name for judge in offline.judges] == ["screen", "pool"]


def test_a_pool_that_cannot_judge_leaves_the_local_verdict_and_gives_its_reason_where_there_is_none(runner):
    screen, pool = Says("screen", Tier.SCREEN), AsksLater("pool", Tier.POOL)
    offline = whole(runner, screen, pool)
    judged, unjudged = offline.assess(
        [item("judged", "screen=0.1 pool=deadline"), item("unjudged", "screen=judge_error pool=too_long")]
    )
    assert isinstance(judged.outcome, Verdict)
    assert judged.outcome.label is Label.HALLUCINATED
    assert isinstance(judged.judgements[1].result, CouldNotJudge)
    assert isinstance(unjudged.outcome, CouldNotJudge)
    assert unjudged.outcome.reason is Unjudgeable.TOO_LONG


def test_without_a_pool_the_local_word_stands(runner):
    screen = Says("screen", Tier.SCREEN)
    (only,) = whole(runner, screen, None).assess([item("unsure", "screen=0.1")])
    assert [one.judge.name for one in only.judgements] == ["screen"]
    assert isinstance(only.outcome, Verdict)
