import logging
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from monitor.domain.judgement import (
    CouldNotJudge,
    JudgeIdentity,
    Opinion,
    Tier,
    Unjudgeable,
    UnsupportedSpan,
)
from monitor.domain.trace import Document, Origin, Trace
from monitor.domain.verdict import Action, Label, Verdict
from monitor.inference.cascade import Cascade
from monitor.judging.calibration import Calibration, JudgeCalibration
from monitor.judging.fusion import Fusion, sigmoid
from monitor.routing.policy import EdgeUse, Policy

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SPAN = UnsupportedSpan(start=0, end=3, score=0.9)


class ScoreInAnswer:
    """A judge whose score is written in the answer: `screen=2 edge=-1`; `error` and failures' names are obeyed."""

    def __init__(self, name: str, tier: Tier, seconds: float = 0.0) -> None:
        self.identity = JudgeIdentity(name=name, tier=tier, model=f"{name}.bin", model_digest="d")
        self.seconds = seconds
        self.asked: list[str] = []
        self.batches: list[int] = []
        self.explained: list[str] = []
        self.clock = 0.0

    def judge(self, trace: Trace, *, deadline_seconds: float) -> Opinion | CouldNotJudge:
        assert deadline_seconds > 0
        self.asked.append(trace.trace_id)
        self.clock += self.seconds
        word = _words(trace)[self.identity.name]
        if word == "error":
            raise RuntimeError("boom")
        if word in set(Unjudgeable):
            return CouldNotJudge(reason=Unjudgeable(word))
        return Opinion(raw_score=float(word), unsupported=(SPAN,) if self.identity.tier is Tier.SCREEN else ())

    def judge_many(self, traces, *, deadline_seconds, explain=None):
        self.batches.append(len(traces))
        if explain is not None and not any("=error" in trace.answer for trace in traces):
            scores = [(trace, _words(trace)[self.identity.name]) for trace in traces]
            self.explained += [
                trace.trace_id for trace, word in scores if word not in set(Unjudgeable) and explain(trace, float(word))
            ]
        return [self.judge(trace, deadline_seconds=deadline_seconds) for trace in traces]


def _words(trace: Trace) -> dict[str, str]:
    return dict(part.split("=") for part in trace.answer.split())


def fitted(judge: ScoreInAnswer, **changes: object) -> JudgeCalibration:
    values = {"slope": 1.0, "intercept": 0.0, "prior": 0.5, "rows": 100, "auroc": 0.8, "brier": 0.2, "ece": 0.1}
    values |= {"log_loss": 0.5, "informative": True, **changes}
    return JudgeCalibration(version=judge.identity.version, model=judge.identity.model, **values)  # type: ignore[arg-type] # a test's shorthand


def calibration(*judges: JudgeCalibration, weights: dict[str, float] | None = None) -> Calibration:
    fusions = (Fusion(weights=weights, bias=0.0, prior=0.5, rows=100, log_loss=0.4),) if weights else ()
    return Calibration(judges=MappingProxyType({judge.version: judge for judge in judges}), fusions=fusions)


def item(number: int, answer: str, documents: tuple[str, ...] = ("text",)) -> tuple[Trace, Origin]:
    trace = Trace(
        trace_id=f"t-{number}",
        event_time=NOW,
        tenant="acme",
        service="help",
        environment="production",
        question="?",
        documents=tuple(Document(id=str(place), text=text) for place, text in enumerate(documents)),
        answer=answer,
    )
    return trace, Origin(topic="rag.traces.v1", partition=0, offset=number)


@pytest.fixture
def screen():
    return ScoreInAnswer("screen", Tier.SCREEN)


@pytest.fixture
def edge():
    return ScoreInAnswer("edge", Tier.EDGE)


def build(screen, judge, fit=None, **policy):
    chosen = {"audit_share": 0.0, "escalate_unsure_share": 0.0, **policy}
    weights = {screen.identity.version: 0.5, judge.identity.version: 1.0}
    fit = fit or calibration(fitted(screen), fitted(judge), weights=weights)
    return Cascade(
        screen=screen,
        edge=judge,
        calibration=fit,
        policy=Policy(**chosen),
        clock=lambda: NOW,
        stopwatch=lambda: judge.clock,
    )


def test_a_sure_screen_decides_alone(screen, edge):
    (sure,) = build(screen, edge).assess([item(1, "screen=3 edge=-9")])
    assert isinstance(sure.outcome, Verdict)
    assert sure.outcome.label is Label.HALLUCINATED
    assert sure.outcome.probability == pytest.approx(sigmoid(3))
    assert sure.outcome.unsupported == (SPAN,)
    assert sure.outcome.decided_by == (screen.identity.version,)
    assert (sure.decision.action, sure.decision.reason) == (Action.ACCEPT, "sure")
    assert edge.asked == []
    assert sure.judged_at == NOW
    assert sure.origin.offset == 1


def test_an_unsure_screen_asks_the_edge_and_fusion_weighs_both(screen, edge):
    (fused,) = build(screen, edge).assess([item(1, "screen=0.2 edge=-2")])
    assert isinstance(fused.outcome, Verdict)
    assert fused.outcome.probability == pytest.approx(sigmoid(0.5 * 0.2 - 2))
    assert fused.outcome.label is Label.FAITHFUL
    assert fused.outcome.unsupported == ()
    assert [judgement.chosen_because for judgement in fused.judgements] == ["all", "unsure"]
    assert fused.decision.reason == "sure"


def test_order_and_number_are_kept_whatever_happens(screen, edge):
    answers = ["screen=3 edge=0", "screen=error edge=1", "", "screen=-3 edge=0", "screen=0 edge=error"]
    items = [item(number, answer) for number, answer in enumerate(answers)] + [item(9, "screen=1 edge=1", ())]
    assessed = build(screen, edge).assess(items)
    assert [one.trace.trace_id for one in assessed] == [trace.trace_id for trace, _ in items]
    kinds = [one.outcome.label if isinstance(one.outcome, Verdict) else one.outcome.reason for one in assessed]
    assert kinds == [
        Label.HALLUCINATED,
        Label.HALLUCINATED,
        Unjudgeable.EMPTY_ANSWER,
        Label.FAITHFUL,
        Label.HALLUCINATED,
        Unjudgeable.NO_DOCUMENTS,
    ]


def test_a_judge_that_raises_costs_one_judgement_and_one_line_of_log(screen, edge, caplog):
    cascade = build(screen, edge, edge=EdgeUse.NONE)
    with caplog.at_level(logging.ERROR):
        assessed = cascade.assess([item(number, "screen=error edge=0") for number in range(3)])
    assert [one.outcome for one in assessed] == [
        CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail="RuntimeError: boom")
    ] * 3
    assert len(caplog.records) == 1


def test_nothing_to_judge_asks_no_judge_and_goes_nowhere(screen, edge):
    (barred,) = build(screen, edge, audit_share=1.0).assess([item(1, "screen=1 edge=1", ("", " "))])
    assert screen.asked == edge.asked == []
    assert barred.judgements == ()
    assert barred.outcome == CouldNotJudge(reason=Unjudgeable.NO_DOCUMENTS, detail="every document is blank")
    assert barred.decision.inclusion_probability == 0.0


def test_an_uncalibrated_judge_carries_no_weight(screen, edge):
    cascade = build(screen, edge, calibration(fitted(edge, informative=False)))
    (unjudged,) = cascade.assess([item(1, "screen=3 edge=3")])
    assert isinstance(unjudged.outcome, CouldNotJudge)
    assert unjudged.outcome.reason is Unjudgeable.UNCALIBRATED
    assert unjudged.judgements[0].probability is None


def test_what_no_local_judge_could_judge_may_be_escalated(screen, edge):
    cascade = build(screen, edge, escalate_unsure_share=1.0)
    (escalated,) = cascade.assess([item(1, "screen=judge_error edge=too_long")])
    assert escalated.outcome == CouldNotJudge(reason=Unjudgeable.TOO_LONG)
    assert (escalated.decision.action, escalated.decision.reason) == (Action.ESCALATE, "unjudged")


def test_a_replay_does_not_ask_the_pool_by_itself(screen, edge):
    trace, origin = item(1, "screen=judge_error edge=too_long")
    again = (trace, replace(origin, replay_id=7))
    told = {"escalate_unsure_share": 1.0}
    (kept,) = build(screen, edge, **told).assess([again])
    assert (kept.decision.action, kept.decision.inclusion_probability) == (Action.ACCEPT, 0.0)
    (escalated,) = build(screen, edge, **told, escalates_replays=True).assess([again])
    assert escalated.decision.action is Action.ESCALATE


def test_the_audit_does_not_shift_the_probability_that_it_is_stored_with(screen, edge):
    # The audit's edge judgement makes a sure trace unsure; without the audit it would have stayed sure.
    cascade = build(screen, edge, audit_share=0.999, escalate_unsure_share=0.5)
    (audited,) = cascade.assess([item(1, "screen=3 edge=-1.5")])
    assert isinstance(audited.outcome, Verdict)
    assert audited.outcome.probability == pytest.approx(0.5)
    assert audited.decision.reason == "audit"
    assert audited.decision.inclusion_probability == pytest.approx(0.999)
    assert audited.judgements[1].chosen_because == "audit"
    assert audited.judgements[1].inclusion_probability == pytest.approx(0.999)


def test_the_edge_stops_at_its_budget_but_audits_go_on(screen, edge):
    edge.seconds = 10.0
    unsure = [item(number, "screen=0 edge=1") for number in range(8)]
    build(screen, edge, edge_budget_share=0.25).assess(unsure)
    assert len(edge.asked) == 2  # 15 s of burst, 10 s each less the 2.5 s earned meanwhile
    edge.asked.clear()
    assessed = build(screen, edge, edge_budget_share=0.25, audit_share=1.0).assess(unsure)
    assert len(edge.asked) == 8
    assert [one.judgements[1].chosen_because for one in assessed] == ["unsure"] * 2 + ["audit"] * 6


def test_the_edge_is_given_as_many_traces_at_once_as_take_a_second(screen, edge):
    edge.seconds = 0.3
    build(screen, edge, edge=EdgeUse.ALL).assess([item(number, "screen=0 edge=1") for number in range(8)])
    assert edge.batches == [1, 3, 3, 1]
    quick = ScoreInAnswer("edge", Tier.EDGE, seconds=0.01)
    build(screen, quick, edge=EdgeUse.ALL).assess([item(number, "screen=0 edge=1") for number in range(17)])
    assert quick.batches == [1, 8, 8]


def test_reasons_are_asked_for_findings_and_doubts_only_and_only_of_a_judge_with_a_say(screen, edge):
    items = [item(1, "screen=0 edge=3"), item(2, "screen=0 edge=-3"), item(3, "screen=0 edge=0.1")]
    build(screen, edge, edge=EdgeUse.ALL).assess(items)
    assert edge.explained == ["t-1", "t-3"]
    audited = ScoreInAnswer("edge", Tier.EDGE)
    build(screen, audited, edge=EdgeUse.ALL, audit_share=1.0).assess(items)
    assert audited.explained == ["t-1", "t-2", "t-3"]
    mute = ScoreInAnswer("edge", Tier.EDGE)
    build(screen, mute, calibration(fitted(screen), fitted(mute, informative=False)), edge=EdgeUse.ALL).assess(items)
    assert mute.explained == []


def test_an_encoder_sees_every_trace_and_what_it_raises_on_costs_one_judgement(screen, edge):
    encoder = ScoreInAnswer("encoder", Tier.EDGE)
    cascade = Cascade(
        screen=screen,
        encoder=encoder,
        edge=None,
        calibration=calibration(fitted(screen), fitted(encoder)),
        policy=Policy(audit_share=0.0, escalate_unsure_share=0.0),
        clock=lambda: NOW,
    )
    good, bad = cascade.assess([item(1, "screen=3 encoder=2"), item(2, "screen=3 encoder=error")])
    assert [judgement.judge.name for judgement in good.judgements] == ["screen", "encoder"]
    assert [judge.name for judge in cascade.judges] == ["screen", "encoder"]
    assert {judgement.inclusion_probability for judgement in good.judgements} == {1.0}
    assert isinstance(bad.judgements[1].result, CouldNotJudge)
    assert bad.judgements[1].result.reason is Unjudgeable.JUDGE_ERROR
    assert isinstance(bad.outcome, Verdict)


def test_edge_all_is_not_budgeted(screen, edge):
    edge.seconds = 100.0
    build(screen, edge, edge=EdgeUse.ALL).assess([item(number, "screen=5 edge=1") for number in range(4)])
    assert len(edge.asked) == 4


def test_the_version_follows_judges_calibration_and_policy(screen, edge):
    other = ScoreInAnswer("other", Tier.EDGE)
    versions = {
        build(screen, edge).version,
        build(screen, other).version,
        build(screen, edge, calibration(fitted(screen))).version,
        build(screen, edge, threshold=0.4).version,
    }
    assert len(versions) == 4
    assert build(screen, edge).version in versions
    assert all(len(version) == len("cascade@") + 12 for version in versions)


def test_an_empty_batch(screen, edge):
    assert build(screen, edge).assess([]) == []


def test_a_score_that_is_no_number_is_no_word(screen, edge):
    (one,) = build(screen, edge, edge=EdgeUse.ALL).assess([item(1, "screen=3 edge=nan")])
    edge_said = one.judgements[1]
    assert (edge_said.probability, edge_said.result.reason) == (None, Unjudgeable.JUDGE_ERROR)
    assert isinstance(one.outcome, Verdict)
    assert one.outcome.decided_by == (screen.identity.version,)
