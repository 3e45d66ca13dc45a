"""The cascade by value, with judges of stated skill: who is asked, for what, and in which segment."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from monitor.domain.judgement import Tier
from monitor.domain.trace import Origin
from monitor.domain.verdict import Action, Label, Verdict
from monitor.inference.cascade import Cascade
from monitor.inference.simulated import SimulatedJudge
from monitor.judging.calibration_fit import fit_calibration
from monitor.routing.policy import Mode, Policy
from monitor.routing.value import Costs
from tests.support.imaginary import imaginary_traces, is_hallucinated

FITTED_ON = 2000
ORIGIN = Origin(topic="rag.traces.v1", partition=0, offset=0)


def judge(name, tier, skill):
    return SimulatedJudge(is_hallucinated, sensitivity=skill, specificity=skill, name=name, tier=tier)


SCREEN, EDGE, POOL = (
    judge("screen", Tier.SCREEN, 0.8),
    judge("edge", Tier.EDGE, 0.88),
    judge("pool", Tier.POOL, 0.96),
)


@pytest.fixture(scope="module")
def calibration():
    traces = imaginary_traces(FITTED_ON)
    scores = [[one.judge(trace, deadline_seconds=1).raw_score for trace in traces] for one in (SCREEN, EDGE, POOL)]
    labels = [is_hallucinated(trace) for trace in traces]
    return fit_calibration([one.identity for one in (SCREEN, EDGE, POOL)], scores, labels)


def assess(calibration, traces, **policy):
    cascade = Cascade(
        screen=SCREEN,
        edge=EDGE,
        calibration=calibration,
        policy=Policy(mode=Mode.VALUE, edge_budget_share=1.0, **{"audit_share": 0.0, **policy}),
        clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        stopwatch=lambda: 0.0,
    )
    return cascade.assess([(trace, ORIGIN) for trace in traces])


def right(assessed):
    labels = [is_hallucinated(one.trace) for one in assessed]
    called = [isinstance(one.outcome, Verdict) and one.outcome.label is Label.HALLUCINATED for one in assessed]
    return np.array(labels) == np.array(called)


TRACES = imaginary_traces(1000, start=FITTED_ON)


def test_each_tier_is_asked_where_it_is_worth_its_price(calibration):
    assessed = assess(calibration, TRACES, edge_call=0.05, pool_call=0.15)
    edge_asked = [one for one in assessed if len(one.judgements) == 2]
    escalated = [one for one in assessed if one.decision.action is Action.ESCALATE]
    assert 0.1 < len(edge_asked) / len(TRACES) < 0.7
    assert 0.02 < len(escalated) / len(TRACES) < len(edge_asked) / len(TRACES)
    assert {one.judgements[1].chosen_because for one in edge_asked} == {"value"}
    assert {one.decision.reason for one in assessed} == {"value", "settled"}
    alone = assess(calibration, TRACES, edge_call=9.0, pool_call=9.0)
    assert all(len(one.judgements) == 1 for one in alone)
    assert right(assessed).mean() > right(alone).mean() + 0.03


def test_escalated_traces_are_those_that_the_edge_leaves_open(calibration):
    assessed = assess(calibration, TRACES, edge_call=0.05, pool_call=0.15)
    open_share, settled_share = (
        np.mean(
            [not fine for fine, one in zip(right(assessed), assessed, strict=True) if one.decision.reason == reason]
        )
        for reason in ("value", "settled")
    )
    assert open_share > 0.25
    assert settled_share < 0.12


def test_costs_move_verdicts_and_calls(calibration):
    careful = Costs(miss=10.0, false_alarm=1.0)
    assessed = assess(calibration, TRACES, edge_call=9.0, pool_call=9.0, costs=careful, threshold=careful.threshold)
    positive = np.array([is_hallucinated(one.trace) for one in assessed])
    even = assess(calibration, TRACES, edge_call=9.0, pool_call=9.0)
    assert right(assessed)[positive].mean() > 0.95 > right(even)[positive].mean()


def test_the_audit_goes_on_whatever_asking_is_worth(calibration):
    assessed = assess(calibration, TRACES, edge_call=9.0, pool_call=9.0, audit_share=0.2)
    audited = [one for one in assessed if one.decision.reason == "audit"]
    assert len(audited) / len(TRACES) == pytest.approx(0.2, abs=0.04)
    assert all(one.decision.inclusion_probability == pytest.approx(0.2) for one in assessed)
    assert all(len(one.judgements) == 2 for one in audited)


def test_a_segment_that_is_known_moves_the_probability(calibration):
    traces = [
        replace(trace, service=("help", "sales")[number // 2 % 2])
        for number, trace in enumerate(imaginary_traces(3000))
    ]
    scores = [[SCREEN.judge(trace, deadline_seconds=1).raw_score for trace in traces]]
    # In sales, half of what would be hallucinated elsewhere is not.
    rng = np.random.default_rng(1)
    labels = [is_hallucinated(trace) and (trace.service == "help" or rng.random() < 0.5) for trace in traces]
    known = fit_calibration([SCREEN.identity], scores, labels, segments=[str(trace.segment) for trace in traces])
    pair = [replace(traces[0], service=service) for service in ("help", "sales")]
    in_help, in_sales = (one.outcome.probability for one in assess(known, pair, edge_call=9.0, pool_call=9.0))
    assert in_help > in_sales
