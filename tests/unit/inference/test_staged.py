from dataclasses import replace

import pytest

from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.domain.trace import Trace
from monitor.domain.verdict import Label, Verdict
from monitor.inference.screen import Screen
from monitor.inference.staged import StagedCascade, Standing
from monitor.inference.unhurried import UnhurriedJudge
from monitor.routing.policy import EdgeUse
from tests.support.stages import CHEAP, DEAR, FAITHFUL, HALLUCINATED, SURE, UNSURE, staged


def first(cascade: StagedCascade, trace: Trace = HALLUCINATED) -> Standing:
    return cascade.first(trace, deadline_seconds=5.0)


@pytest.mark.parametrize(("trace", "label"), [(FAITHFUL, Label.FAITHFUL), (HALLUCINATED, Label.HALLUCINATED)])
def test_a_sure_judge_is_the_only_one_asked(trace: Trace, label: Label) -> None:
    standing = first(staged(policy=SURE), trace)
    assert isinstance(standing.outcome, Verdict)
    assert standing.outcome.label is label
    assert standing.complete
    assert standing.decider == CHEAP.identity


def test_an_unsure_one_has_a_first_word_and_the_dear_one_the_last() -> None:
    cascade = staged()
    begun = first(cascade)
    assert isinstance(begun.outcome, Verdict)
    assert not begun.complete
    assert begun.decider == CHEAP.identity

    ended = cascade.second(begun, deadline_seconds=5.0)
    assert isinstance(ended.outcome, Verdict)
    assert ended.complete
    assert ended.decider == DEAR.identity
    assert [one.judge.name for one in ended.judgements] == ["screen", "gguf"]
    assert ended.outcome.decided_by == (CHEAP.identity.version, DEAR.identity.version)


def test_a_dear_judge_that_is_too_slow_leaves_the_first_word_and_the_wish_to_hear_it() -> None:
    slow = UnhurriedJudge(DEAR, seconds=9.0, pause=lambda _: None)
    cascade = staged(dear=slow)
    begun = first(cascade)
    ended = cascade.second(begun, deadline_seconds=1.0)
    assert ended.outcome == begun.outcome
    assert not ended.complete
    result = ended.judgements[-1].result
    assert isinstance(result, CouldNotJudge)
    assert result.reason is Unjudgeable.DEADLINE


def test_where_the_cheap_one_cannot_judge_the_dear_one_decides() -> None:
    cascade = staged(cheap=UnhurriedJudge(CHEAP, seconds=9.0, pause=lambda _: None))
    begun = first(cascade)
    assert isinstance(begun.outcome, CouldNotJudge)
    assert not begun.complete
    assert begun.decider is None
    ended = cascade.second(begun, deadline_seconds=5.0)
    assert isinstance(ended.outcome, Verdict)
    assert ended.complete
    assert ended.decider == DEAR.identity


def test_a_judge_without_weight_is_not_asked() -> None:
    assert first(staged(dear_counts=False)).complete
    assert not first(staged(dear_counts=True)).complete
    assert staged(dear_counts=False).mute == DEAR.identity
    assert staged(dear_counts=True).mute is None
    assert staged(dear=None).mute is None


def test_the_policy_may_send_all_or_nothing_to_the_dear_one() -> None:
    assert not first(staged(policy=replace(SURE, edge=EdgeUse.ALL))).complete
    assert first(staged(policy=replace(UNSURE, edge=EdgeUse.NONE))).complete


def test_nothing_is_audited_and_no_share_of_time_is_kept() -> None:
    audited = replace(SURE, audit_share=1.0)
    assert first(staged(policy=audited)).complete
    assert not first(staged(policy=replace(UNSURE, edge_budget_share=0.0))).complete
    assert staged(policy=audited).version == staged(policy=SURE).version


def test_what_nobody_could_judge_is_told_at_once() -> None:
    standing = first(staged(), replace(HALLUCINATED, answer=" "))
    assert isinstance(standing.outcome, CouldNotJudge)
    assert standing.outcome.reason is Unjudgeable.EMPTY_ANSWER
    assert standing.complete
    assert standing.judgements == ()


def test_the_version_is_of_judges_calibration_and_policy() -> None:
    versions = {
        staged().version,
        staged(policy=SURE).version,
        staged(dear_counts=False).version,
        staged(cheap=Screen()).version,
    }
    assert len(versions) == 4
    assert staged().version == staged().version
