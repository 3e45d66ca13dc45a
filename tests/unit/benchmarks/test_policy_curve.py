from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

import numpy as np
import pytest

from monitor.benchmarks.policy_curve import Cases, Economy, cases_of, curve, held_out_cases, point_at, price_of
from monitor.domain.judgement import Judgement, Opinion, Tier
from monitor.domain.verdict import Action
from monitor.inference.outcome import outcome
from monitor.inference.simulated import SimulatedJudge
from monitor.judging.calibration import Calibration
from monitor.judging.calibration_fit import fit_calibration
from monitor.judging.prospects import Prospect
from monitor.routing.policy import Mode, Policy
from monitor.routing.value import Costs
from tests.support.imaginary import imaginary_traces, is_hallucinated

FITTED_ON, SETS, ROWS = 4000, 20, 1000
EVEN = Economy(costs=Costs(), call=0.05, threshold=0.5)


@dataclass(frozen=True)
class World:
    """Two judges, what was fitted on their first traces, and their scores on all."""

    judges: tuple[SimulatedJudge, SimulatedJudge]
    calibration: Calibration
    traces: list
    labels: np.ndarray
    scores: dict[str, np.ndarray]

    def cases(self, rows: slice) -> Cases:
        scores = {version: column[rows] for version, column in self.scores.items()}
        asked = self.judges[1].identity.version
        return cases_of(self.calibration, scores, self.labels[rows], asked=asked, threshold=0.5)

    def sets(self):
        return [slice(begin, begin + ROWS) for begin in range(FITTED_ON, FITTED_ON + SETS * ROWS, ROWS)]


@cache
def world(weak: float, strong: float, shared: float = 0.0) -> World:
    judges = tuple(
        SimulatedJudge(is_hallucinated, sensitivity=skill, specificity=skill, name=name, tier=tier, shared=shared)
        for skill, name, tier in ((weak, "weak", Tier.SCREEN), (strong, "strong", Tier.POOL))
    )
    traces = list(imaginary_traces(FITTED_ON + SETS * ROWS))
    labels = np.array([is_hallucinated(trace) for trace in traces])
    scores = {
        judge.identity.version: np.array([judge.judge(one, deadline_seconds=1).raw_score for one in traces])
        for judge in judges
    }
    known = [column[:FITTED_ON].tolist() for column in scores.values()]
    fitted = fit_calibration([judge.identity for judge in judges], known, labels[:FITTED_ON].tolist())
    return World(judges, fitted, traces, labels, scores)


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["independent", "dependent"])
def both(request):
    return world(0.90, 0.95, request.param)


def test_what_the_policy_costs_and_gets_right_is_what_was_predicted(both):
    shares = (0.0, 0.1, 0.25, 0.5, 1.0)
    points = [curve(both.cases(rows), EVEN, shares=shares) for rows in both.sets()]
    for place, share in enumerate(shares):
        held = [
            (one[place].cost.holds(one[place].predicted_cost), one[place].balanced_accuracy.holds(predicted))
            for one in points
            if (predicted := one[place].predicted_balanced_accuracy)
        ]
        # Intervals of 95 % on 20 sets of rows: 17 is the least that chance leaves them with (1 in 60).
        assert sum(cost for cost, _ in held) >= 17, share
        assert sum(accuracy for _, accuracy in held) >= 17, share


def test_a_quarter_of_the_calls_keeps_98_percent_where_errors_gather_near_the_threshold(both):
    (point,) = curve(both.cases(slice(FITTED_ON, None)), EVEN, shares=(0.25,))
    assert point.share == pytest.approx(0.25, abs=0.001)
    assert point.retained >= 0.98
    strong = both.scores[both.judges[1].identity.version][FITTED_ON:]
    alone = ((strong > 0) == both.labels[FITTED_ON:]).mean()
    assert point.balanced_accuracy.value >= alone


def test_where_the_weak_judge_errs_everywhere_no_quarter_of_calls_can_and_the_curve_says_so():
    poor = world(0.70, 0.95)
    quarter, always = curve(poor.cases(slice(FITTED_ON, None)), EVEN, shares=(0.25, 1.0))
    assert quarter.retained < 0.9
    foretold = quarter.predicted_balanced_accuracy / always.predicted_balanced_accuracy
    assert foretold == pytest.approx(quarter.retained, abs=0.01)


def test_the_policy_itself_does_what_the_curve_says(both):
    """Through `Calibration.fuse`, `Calibration.prospect` and `Policy.decide`, trace by trace."""
    rows = slice(FITTED_ON, FITTED_ON + ROWS)
    (point,) = curve(both.cases(rows), EVEN, shares=(0.25,))
    policy = Policy(mode=Mode.VALUE, pool_call=0.05, pool_price=point.bar - 0.05 + 1e-9, audit_share=0.0)
    calls, right = 0, []
    for row in range(rows.start, rows.stop):
        weak, strong = (judgement(both, judge, row) for judge in both.judges)
        fused = both.calibration.fuse([weak])
        assert fused is not None
        prospect = both.calibration.prospect([weak], Tier.POOL, probability=fused[0], threshold=policy.threshold)
        decision = policy.decide(both.traces[row], probability=fused[0], prospect=prospect)
        heard = [weak, strong] if decision.action is Action.ESCALATE else [weak]
        assert decision.inclusion_probability == float(decision.action is Action.ESCALATE)
        calls += len(heard) - 1
        verdict = outcome(heard, both.calibration, policy)
        right.append((verdict.label == "hallucinated") == both.labels[row])
    assert calls == round(point.share * ROWS)
    positive = both.labels[rows]
    balanced = (np.mean(np.array(right)[positive]) + np.mean(np.array(right)[~positive])) / 2
    assert balanced == pytest.approx(point.balanced_accuracy.value)


def judgement(known: World, judge: SimulatedJudge, row: int) -> Judgement:
    version = judge.identity.version
    raw = float(known.scores[version][row])
    return Judgement(
        judge=judge.identity,
        result=Opinion(raw_score=raw),
        probability=known.calibration.probability(version, raw),
        latency_seconds=0.0,
        inclusion_probability=1.0,
        chosen_because="all",
    )


def test_a_dear_miss_moves_threshold_and_calls_towards_what_is_called_faithful(both):
    costs = Costs(miss=9.0, false_alarm=1.0)
    assert costs.threshold == pytest.approx(0.1)
    scores = {version: column[FITTED_ON:] for version, column in both.scores.items()}
    asked = both.judges[1].identity.version
    cases = cases_of(both.calibration, scores, both.labels[FITTED_ON:], asked=asked, threshold=0.1)
    dear = curve(cases, Economy(costs=costs, call=0.0, threshold=0.1), shares=(0.25,))[0]
    even = curve(both.cases(slice(FITTED_ON, None)), replace(EVEN, costs=costs, call=0.0), shares=(0.25,))[0]
    assert dear.cost.high < even.cost.low
    assert dear.cost.value == pytest.approx(dear.predicted_cost, rel=0.15)


def test_asking_only_above_its_cost_is_the_cheapest_point(both):
    cases = both.cases(slice(FITTED_ON, None))
    economy = replace(EVEN, call=0.1)
    best = point_at(cases, economy, 0.1)
    assert 0 < best.share < 1
    assert all(best.predicted_cost <= point.predicted_cost + 1e-9 for point in curve(cases, economy))


def test_held_out_rows_are_judged_by_fits_without_them():
    small = world(0.85, 0.95)
    rows = slice(0, 600)
    identities = [judge.identity for judge in small.judges]
    scores = [small.scores[one.version][rows].tolist() for one in identities]
    scores[1][5] = None
    cases = held_out_cases(identities, scores, small.labels[rows].tolist(), threshold=0.5)
    assert len(cases.labels) == len(cases.prospects) == 599
    assert len(set(np.round(cases.before, 12))) == 599
    (point,) = curve(cases, EVEN, shares=(0.25,))
    assert point.cost.holds(point.predicted_cost)


def test_a_judge_that_adds_nothing_known_is_named():
    small = world(0.85, 0.95)
    unfitted = Calibration(judges=MappingProxyType(dict(small.calibration.judges)))
    with pytest.raises(ValueError, match="strong@"):
        World(small.judges, unfitted, small.traces, small.labels, small.scores).cases(slice(0, 100))


def test_the_price_of_a_share_lets_no_more_through():
    values = np.array([0.4, 0.1, 0.3, 0.3, 0.0])
    assert [int((values > price_of(values, share)).sum()) for share in (0.0, 0.2, 0.4, 0.6, 1.0)] == [0, 1, 1, 3, 5]


def test_nothing_is_worth_less_than_nothing():
    costs = Costs()
    assert costs.value(0.01, 0.5, Prospect(miss=0.2, false_alarm=0.2)) == 0.0
    assert costs.value(0.4, 0.5, Prospect(miss=0.1, false_alarm=0.05)) == pytest.approx(0.25)
    assert costs.most == pytest.approx(0.5)
