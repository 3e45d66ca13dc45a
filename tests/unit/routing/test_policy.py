import itertools
import random
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.domain.trace import Trace
from monitor.domain.verdict import Action, Label
from monitor.routing.budget import TimeBudget
from monitor.routing.policy import (
    AUDIT_PRIORITY,
    REPLAYED_PRIORITY,
    UNJUDGED_PRIORITY,
    UNSURE_PRIORITY,
    EdgeUse,
    Mode,
    Policy,
)
from monitor.routing.sampling import chosen, uniform
from monitor.routing.value import Costs


def trace(number):
    return Trace(
        trace_id=f"trace-{number}",
        event_time=datetime(2026, 1, 1, tzinfo=UTC),
        tenant="acme",
        service="help",
        environment="production",
        question="",
        documents=(),
        answer="x",
    )


TRACES = [trace(number) for number in range(20_000)]


def test_the_hash_is_uniform_and_stable():
    values = sorted(uniform("acme", one.trace_id, "s") for one in TRACES)
    gaps = [abs(value - place / len(values)) for place, value in enumerate(values)]
    assert max(gaps) < 1.63 / len(values) ** 0.5  # Kolmogorov-Smirnov at 1 %
    assert uniform("acme", "trace-1", "s") == uniform("acme", "trace-1", "s")
    assert len({uniform(tenant, "t", salt) for tenant, salt in itertools.product("ab", "cd")}) == 4


def test_none_and_all():
    assert not any(chosen("acme", one.trace_id, salt="s", share=0.0) for one in TRACES)
    assert all(chosen("acme", one.trace_id, salt="s", share=1.0) for one in TRACES)


@pytest.mark.parametrize("probability", [0.1, 0.5, None])
def test_the_stored_inclusion_probability_is_the_share_that_is_escalated(probability):
    policy = Policy(audit_share=0.1, escalate_unsure_share=0.3)
    decisions = [policy.decide(one, probability=probability) for one in TRACES]
    stated = {decision.inclusion_probability for decision in decisions}
    escalated = sum(decision.action is Action.ESCALATE for decision in decisions) / len(decisions)
    assert len(stated) == 1
    assert stated.pop() == pytest.approx(0.1 if probability == 0.1 else 0.1 + 0.9 * 0.3)
    assert escalated == pytest.approx(decisions[0].inclusion_probability, abs=0.012)


@pytest.mark.parametrize("probability", [0.1, 0.5, None])
def test_what_is_judged_anew_goes_to_the_pool_where_that_is_asked_for_and_after_all_else(probability):
    everything = {"audit_share": 0.2, "escalate_unsure_share": 1.0}
    live, asked = Policy(**everything), Policy(**everything, escalates_replays=True)
    waiting = {live.decide(one, probability=any_).priority for one in TRACES[:500] for any_ in (0.1, 0.35, 0.65, None)}
    for one in TRACES[:500]:
        alone = live.decide(one, probability=probability, replayed=True)
        assert (alone.action, alone.inclusion_probability) == (Action.ACCEPT, 0.0)
        decided, usual = (
            asked.decide(one, probability=probability, replayed=True),
            live.decide(one, probability=probability),
        )
        assert (decided.action, decided.reason) == (usual.action, usual.reason)
        if decided.action is Action.ESCALATE:
            assert decided.priority == usual.priority + REPLAYED_PRIORITY > max(waiting)
    # One setting makes one version, live and in a replay; asking the pool about replays makes another.
    assert live.digest == Policy(**everything).digest != asked.digest


@pytest.mark.parametrize("reason", [Unjudgeable.NO_DOCUMENTS, Unjudgeable.EMPTY_ANSWER, Unjudgeable.REDACTED])
def test_what_no_judge_can_judge_is_never_escalated(reason):
    policy = Policy(audit_share=1.0, escalate_unsure_share=1.0)
    decision = policy.decide(TRACES[0], probability=None, failure=CouldNotJudge(reason=reason))
    assert (decision.action, decision.reason, decision.inclusion_probability) == (Action.ACCEPT, "unjudgeable", 0.0)


@pytest.mark.parametrize("probability", [None, 0.01, 0.5])
def test_without_a_pool_nothing_is_escalated(probability):
    policy = Policy(escalates=False, audit_share=1.0, escalate_unsure_share=1.0)
    decision = policy.decide(TRACES[0], probability=probability)
    assert (decision.action, decision.inclusion_probability) == (Action.ACCEPT, 0.0)


@pytest.mark.parametrize(
    ("policy", "probability", "action", "reason", "priority"),
    [
        (Policy(audit_share=1.0), 0.01, Action.ESCALATE, "audit", AUDIT_PRIORITY),
        (Policy(audit_share=0.0, escalate_unsure_share=1.0), 0.5, Action.ESCALATE, "unsure", UNSURE_PRIORITY),
        (Policy(audit_share=0.0, escalate_unsure_share=1.0), 0.6, Action.ESCALATE, "unsure", UNSURE_PRIORITY + 10),
        (Policy(audit_share=0.0, escalate_unsure_share=1.0), None, Action.ESCALATE, "unjudged", UNJUDGED_PRIORITY),
        (Policy(audit_share=0.0, escalate_unsure_share=1.0), 0.9, Action.ACCEPT, "sure", 100),
        (Policy(audit_share=0.0, escalate_unsure_share=0.0), 0.5, Action.ACCEPT, "unsure", 100),
    ],
)
def test_decisions_and_their_priority(policy, probability, action, reason, priority):
    decision = policy.decide(TRACES[0], probability=probability)
    assert (decision.action, decision.reason, decision.priority) == (action, reason, priority)


@pytest.mark.parametrize(
    ("edge", "probability", "within", "audit", "because"),
    [
        (EdgeUse.NONE, 0.5, True, 1.0, None),
        (EdgeUse.ALL, 0.01, False, 0.0, "all"),
        (EdgeUse.UNSURE, 0.5, True, 0.0, "unsure"),
        (EdgeUse.UNSURE, None, True, 0.0, "unsure"),
        (EdgeUse.UNSURE, 0.5, False, 0.0, None),
        (EdgeUse.UNSURE, 0.5, False, 1.0, "audit"),
        (EdgeUse.UNSURE, 0.01, True, 0.0, None),
        (EdgeUse.UNSURE, 0.01, True, 1.0, "audit"),
    ],
)
def test_whom_the_edge_judge_sees(edge, probability, within, audit, because):
    policy = Policy(edge=edge, audit_share=audit)
    choice = policy.edge_choice(TRACES[0], probability, within_budget=within)
    assert (choice and choice.because) == because


def test_audit_and_escalation_are_drawn_independently():
    policy = Policy(audit_share=0.5, escalate_unsure_share=0.5)
    both = sum(policy.is_audited(one) and policy._chosen(one, "escalate", 0.5) for one in TRACES)
    assert both / len(TRACES) == pytest.approx(0.25, abs=0.012)


def test_the_label_turns_at_the_threshold():
    policy = Policy(threshold=0.6)
    assert policy.label(0.6) is Label.HALLUCINATED
    assert policy.label(0.5999) is Label.FAITHFUL


def test_the_digest_follows_every_attribute():
    changed = [
        Policy(),
        Policy(threshold=0.4),
        Policy(edge=EdgeUse.ALL),
        Policy(edge_budget_share=0.5),
        Policy(unsure_low=0.3),
        Policy(unsure_high=0.7),
        Policy(escalate_unsure_share=0.2),
        Policy(audit_share=0.1),
        Policy(escalates=False),
        Policy(salt="other"),
        Policy(mode=Mode.VALUE),
        Policy(costs=Costs(miss=2.0)),
        Policy(edge_call=0.1),
        Policy(pool_call=0.1),
        Policy(edge_price=0.1),
        Policy(pool_price=0.1),
    ]
    assert len({policy.digest for policy in changed}) == len(changed)
    assert Policy().digest == Policy().digest


def test_a_budget_lets_its_share_of_the_time_through():
    budget, worked, now = TimeBudget(share=0.25, burst_seconds=5.0), 0.0, 0.0
    while now < 4000:
        if budget.allows(now):
            worked += 2.0
            now += 2.0
            budget.spend(2.0, now=now)
        else:
            now += 0.1
    assert worked == pytest.approx(0.25 * 4000 + 5, abs=3)


def test_a_budget_of_all_never_runs_out_and_one_of_nothing_never_begins():
    everything, now = TimeBudget(share=1.0, burst_seconds=1.0), 0.0
    for _ in range(100):
        assert everything.allows(now)
        now += 7.0
        everything.spend(7.0, now=now)
        now += 0.001
    assert not TimeBudget(share=0.0).allows(1e9)


def test_an_overdraft_is_paid_back_and_idle_time_saves_no_more_than_the_burst():
    budget = TimeBudget(share=0.5, burst_seconds=1.0)
    assert budget.allows(0.0)
    budget.spend(11.0, now=11.0)
    assert not budget.allows(12.0)
    assert budget.allows(40.0)
    budget.spend(2.5, now=10_000.0)
    assert not budget.allows(10_000.0)


# By value


@dataclass(frozen=True)
class Left:
    """What would remain wrong."""

    miss: float
    false_alarm: float


GOOD = Left(miss=0.05, false_alarm=0.05)
BY_VALUE = Policy(mode=Mode.VALUE, audit_share=0.1, pool_call=0.05, pool_price=0.1)


@pytest.mark.parametrize(
    ("probability", "prospect", "action", "reason", "inclusion"),
    [
        (0.4, GOOD, Action.ESCALATE, "value", 1.0),  # avoids 0.3 of 0.4
        (0.9, GOOD, Action.ACCEPT, "settled", 0.1),  # could avoid nothing
        (0.24, GOOD, Action.ACCEPT, "settled", 0.1),  # avoids 0.14: more than its cost, less than cost and price
        (0.5, Left(miss=0.3, false_alarm=0.3), Action.ACCEPT, "settled", 0.1),  # a judge that would only guess
        (0.9, None, Action.ACCEPT, "sure", 0.1),  # nothing tells: the band
    ],
)
def test_by_value_traces_go_where_that_avoids_more_than_cost_and_price(
    probability, prospect, action, reason, inclusion
):
    unaudited = next(one for one in TRACES if not BY_VALUE.is_audited(one))
    decision = BY_VALUE.decide(unaudited, probability=probability, prospect=prospect)
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.inclusion_probability == pytest.approx(inclusion)


@pytest.mark.parametrize(("probability", "prospect"), [(0.4, GOOD), (0.9, GOOD), (0.5, None), (None, None)])
def test_by_value_too_the_stored_inclusion_probability_is_the_share_that_is_escalated(probability, prospect):
    decisions = [BY_VALUE.decide(one, probability=probability, prospect=prospect) for one in TRACES]
    (stated,) = {decision.inclusion_probability for decision in decisions}
    escalated = sum(decision.action is Action.ESCALATE for decision in decisions) / len(decisions)
    assert escalated == pytest.approx(stated, abs=0.012)


def test_what_is_worth_most_goes_first_and_audits_before_it():
    policy = Policy(mode=Mode.VALUE, audit_share=0.0)
    priorities = [policy.decide(TRACES[0], probability=p, prospect=GOOD).priority for p in (0.5, 0.4, 0.3)]
    assert priorities == sorted(priorities)
    assert len(set(priorities)) == 3
    assert UNSURE_PRIORITY <= priorities[0] < priorities[-1] <= UNSURE_PRIORITY + 100


def test_costs_weigh_the_errors():
    dear_miss = Policy(mode=Mode.VALUE, audit_share=0.0, costs=Costs(miss=10.0, false_alarm=1.0), threshold=1 / 11)
    # Called hallucinated already: what asking could avoid is a false alarm, which is cheap.
    assert dear_miss.value(0.2, Left(miss=0.0, false_alarm=0.0)) == pytest.approx(0.8)
    # Called faithful: a miss of 5 % costs 0.5.
    assert dear_miss.value(0.05, Left(miss=0.0, false_alarm=0.0)) == pytest.approx(0.5)
    assert dear_miss.value(0.05, None) is None
    assert Policy().value(0.05, GOOD) is None
    assert Costs(miss=10.0, false_alarm=1.0).most == pytest.approx(dear_miss.value(1 / 11, Left(0.0, 0.0)))


@pytest.mark.parametrize(
    ("probability", "prospect", "scarcity", "because"),
    [
        (0.4, GOOD, 0.0, "value"),
        (0.4, GOOD, 0.5, "value"),  # 0.3 against 0.25
        (0.4, GOOD, 0.7, None),  # 0.3 against 0.35
        (0.5, GOOD, 0.7, "value"),  # 0.4 against 0.35
        (0.9, GOOD, 0.0, None),
        (0.5, None, 0.9, "unsure"),
    ],
)
def test_the_edge_is_asked_for_what_is_worth_it_and_the_less_time_is_left_the_more(
    probability, prospect, scarcity, because
):
    policy = Policy(mode=Mode.VALUE, audit_share=0.0)
    choice = policy.edge_choice(TRACES[0], probability, within_budget=True, prospect=prospect, scarcity=scarcity)
    assert (choice and choice.because) == because


def test_without_a_pool_nothing_is_escalated_by_value_either():
    decision = Policy(mode=Mode.VALUE, escalates=False).decide(TRACES[0], probability=0.5, prospect=GOOD)
    assert (decision.action, decision.inclusion_probability) == (Action.ACCEPT, 0.0)


def test_scarcity_rises_as_time_is_used_up():
    budget = TimeBudget(share=0.5, burst_seconds=10.0)
    assert budget.scarcity(0.0) == 0.0
    budget.spend(10.0, now=10.0)
    assert budget.scarcity(10.0) == pytest.approx(0.5)
    assert budget.scarcity(20.0) == pytest.approx(0.0)
    budget.spend(100.0, now=120.0)
    assert budget.scarcity(120.0) == 1.0
    assert TimeBudget(share=0.0).scarcity(5.0) == 1.0


def test_a_scarce_judge_is_kept_for_what_is_worth_most_and_within_its_share():
    """Calls of one second, a trace every half second: half of them at most, and not the first ones to come."""
    draw = random.Random(4)
    policy, budget, now = Policy(mode=Mode.VALUE, audit_share=0.0), TimeBudget(share=0.25, burst_seconds=10.0), 0.0
    asked, all_values = [], []
    for one in TRACES[:8000]:
        now += 0.5
        probability = draw.random()
        prospect = Left(miss=0.1 * probability, false_alarm=0.1 * (1 - probability))
        value = policy.value(probability, prospect)
        all_values.append(value)
        choice = policy.edge_choice(
            one, probability, within_budget=budget.allows(now), prospect=prospect, scarcity=budget.scarcity(now)
        )
        if choice is not None:
            asked.append(value)
            now += 1.0
            budget.spend(1.0, now=now)
    assert len(asked) == pytest.approx(0.25 * now, rel=0.05)
    best = sorted(all_values, reverse=True)[: len(asked)]
    random_choice = sum(all_values) / len(all_values) * len(asked)
    # Of what could be gained over asking whoever comes first, most is gained.
    assert sum(asked) - random_choice > 0.85 * (sum(best) - random_choice)
