"""Who sees which traces: by service, deterministic, with the probability that is stored."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from monitor.domain.trace import Trace
from monitor.routing.evaluation import EvaluatorRule, SelectedEvaluator, select_evaluators

TRACE = Trace(
    trace_id="t",
    event_time=datetime(2026, 1, 1, tzinfo=UTC),
    tenant="acme",
    service="help-desk",
    environment="production",
    question="",
    documents=(),
    answer="",
)
TRACES = [replace(TRACE, trace_id=f"t-{number}") for number in range(4000)]


def rule(services: str, *evaluators: str, share: float = 1.0) -> EvaluatorRule:
    return EvaluatorRule(services=services, evaluators=evaluators, share=share)


def names(trace: Trace, *rules: EvaluatorRule) -> list[str]:
    return [selected.name for selected in select_evaluators(trace, rules)]


@pytest.mark.parametrize(
    ("services", "matches"),
    [
        ("acme/help-desk", True),
        ("acme/*", True),
        ("*/help-desk", True),
        ("*", True),
        ("*/help-?esk", True),
        ("acme", False),
        ("ACME/*", False),
        ("other/*", False),
        ("*/desk", False),
    ],
)
def test_a_rule_is_for_the_services_that_its_pattern_names(services: str, matches: bool) -> None:  # noqa: FBT001 - a parameter of the table above
    assert names(TRACE, rule(services, "x")) == (["x"] if matches else [])


def test_all_rules_of_a_service_count_and_the_largest_share_of_an_evaluator() -> None:
    rules = (rule("acme/*", "a", "b", share=0.0), rule("*", "b", "c"), rule("other/*", "d"))
    assert select_evaluators(TRACE, rules) == (
        SelectedEvaluator(name="b", inclusion_probability=1.0),
        SelectedEvaluator(name="c", inclusion_probability=1.0),
    )


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_the_stored_probability_is_the_share_that_is_chosen(share: float) -> None:
    chosen = [select_evaluators(trace, [rule("*", "a", share=share)]) for trace in TRACES]
    assert sum(map(len, chosen)) / len(TRACES) == pytest.approx(share, abs=0.025)
    assert {one.inclusion_probability for each in chosen for one in each} == {share}


def test_the_same_traces_every_time_and_all_of_them_when_the_share_grows() -> None:
    few = {trace.trace_id for trace in TRACES if names(trace, rule("*", "a", share=0.1))}
    assert few == {trace.trace_id for trace in TRACES if names(trace, rule("*", "a", share=0.1))}
    assert few < {trace.trace_id for trace in TRACES if names(trace, rule("*", "a", share=0.2))}


def test_evaluators_draw_their_own_samples() -> None:
    both = [names(trace, rule("*", "a", "b", share=0.5)) for trace in TRACES]
    assert sum(len(each) == 2 for each in both) / len(TRACES) == pytest.approx(0.25, abs=0.03)
