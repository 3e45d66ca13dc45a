from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitor.domain.alert import Alarm, Alert, AlertState, Direction
from monitor.domain.trace import Segment, Trace
from monitor.embedded.report import Findings, Judged, conclude
from monitor.embedded.sample import LabelledTrace, Sample

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
CHANGE = NOON + timedelta(minutes=50)


def trace(service: str, minute: int, *, hallucinated: bool) -> LabelledTrace:
    moment = NOON + timedelta(minutes=minute)
    return LabelledTrace(
        trace=Trace(
            trace_id=f"{service}-{minute}",
            event_time=moment,
            tenant="demo",
            service=service,
            environment="production",
            question="",
            documents=(),
            answer="",
        ),
        hallucinated=hallucinated,
        changed=service == "loose" and moment >= CHANGE,
    )


SAMPLE = Sample(
    traces=tuple(
        [trace("firm", minute, hallucinated=minute % 10 == 0) for minute in range(100)]
        + [trace("loose", minute, hallucinated=minute % 10 == 0 or minute >= 80) for minute in range(100)]
    ),
    changed_service="loose",
    changed_at=CHANGE,
)
COUNTED = {"verdicts": 200, "unjudged": 0, "dead_letters": 0, "duplicates": 0, "in_flight": 0, "lost": 0}


def alert(service: str, minute: int) -> Alert:
    return Alert(
        alert_id=f"{service}-{minute}",
        segment=Segment(tenant="demo", service=service, environment="production"),
        evaluator="faithfulness",
        judge_version="cascade@1",
        alarm=Alarm(
            event_time=NOON + timedelta(minutes=minute),
            change_at=CHANGE,
            change_earliest=CHANGE,
            change_latest=CHANGE,
            direction=Direction.RISE,
            evidence=10.0,
            rate_before=0.1,
            rate_after=0.4,
            verdicts_seen=100,
            delay_verdicts=30,
        ),
        state=AlertState.FIRING,
        raised_at=NOON,
        average_run_length=20_000,
    )


def findings(**changed: Any) -> Findings:
    perfect = [
        Judged(trace_id=one.trace.trace_id, hallucinated=one.hallucinated, probability=0.9 if one.hallucinated else 0.1)
        for one in SAMPLE.traces
    ]
    whole = Findings(
        accepted=frozenset(one.trace.trace_id for one in SAMPLE.traces),
        judged=perfect,
        unjudged=frozenset(),
        accounting=COUNTED,
        alerts=[alert("loose", 84)],
        late_verdicts=0,
        latency={"screen": {"p50": 0.001, "p95": 0.002, "judgements": 200}},
        seconds=10.0,
    )
    return replace(whole, **changed)


def test_a_perfect_run_has_no_problems() -> None:
    report = conclude(SAMPLE, findings())
    assert report["problems"] == []
    assert report["accounting"] == {"in": 200, **COUNTED}
    assert report["quality"]["all"] == {"verdicts": 200, "auroc": 1.0, "balanced_accuracy": 1.0}
    assert report["alert"]["delay_verdicts"] == 35
    assert report["throughput"]["traces_per_second"] == 20.0


def test_rates_are_held_against_the_truth_by_service_and_phase() -> None:
    rates = {(rate["service"], rate["phase"]): rate for rate in conclude(SAMPLE, findings())["rates"]}
    assert list(rates) == [("firm", "before"), ("firm", "after"), ("loose", "before"), ("loose", "after")]
    assert rates["loose", "after"]["true_rate"] == pytest.approx(0.46)
    assert rates["loose", "after"]["judged"]["low"] < 0.46 < rates["loose", "after"]["judged"]["high"]


def test_a_trace_without_outcome_is_lost_even_if_the_ledger_sees_no_gap() -> None:
    report = conclude(SAMPLE, findings(judged=findings().judged[1:]))
    assert report["accounting"]["lost"] == 1
    assert report["problems"] == ["1 traces are unaccounted for"]


def test_a_gap_that_the_ledger_sees_is_lost_even_if_the_ids_add_up() -> None:
    report = conclude(SAMPLE, findings(accounting={**COUNTED, "lost": 3}))
    assert report["accounting"]["lost"] == 3


@pytest.mark.parametrize(("service", "minute"), [("firm", 90), ("loose", 49)])
def test_an_alert_on_the_wrong_service_or_too_early_is_false(service: str, minute: int) -> None:
    report = conclude(SAMPLE, findings(alerts=[alert(service, minute), alert("loose", 90)]))
    assert report["alert"]["fired"]
    assert report["alert"]["false_before_change"] == 1
    assert report["problems"] == ["1 false alerts fired"]


def test_silence_is_a_problem() -> None:
    report = conclude(SAMPLE, findings(alerts=[]))
    assert not report["alert"]["fired"]
    assert report["problems"] == ["no alert fired after the change"]


def test_traces_in_flight_are_a_problem() -> None:
    report = conclude(SAMPLE, findings(accounting={**COUNTED, "verdicts": 199, "in_flight": 1}))
    assert report["problems"] == ["1 traces are still in flight"]
