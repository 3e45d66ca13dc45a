"""What the demo concludes: the ledger's word held against the truth that only the demo knows.

`conclude` is pure: it takes what was sent and what the ledger says, and returns one JSON-ready value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from monitor.domain.alert import Alert
from monitor.domain.rate import Rate, wilson
from monitor.embedded.sample import LabelledTrace, Sample
from monitor.judging.metrics import auroc, balanced_accuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One verdict of the ledger, as far as the demo needs it."""

    trace_id: str
    hallucinated: bool
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """All that the demo learned from running.

    Attributes:
        accepted: ids that the sidecar acknowledged.
        accounting: the ledger's own accounting, by outcome.
        alerts: every alert that fired, in the order in which they fired.
        late_verdicts: came for minutes that detectors had folded, and were seen by none.
        latency: per tier, the percentiles of a judgement's latency in seconds.
        seconds: wall time from the first trace sent to the last verdict committed.
    """

    accepted: frozenset[str]
    judged: Sequence[Judged]
    unjudged: frozenset[str]
    accounting: Mapping[str, int]
    alerts: Sequence[Alert]
    late_verdicts: int
    latency: Mapping[str, Mapping[str, float]]
    seconds: float


def conclude(sample: Sample, findings: Findings) -> dict[str, Any]:
    """Hold the findings against the labels; `problems` is empty exactly when the demo succeeded."""
    accounting = _accounting(findings)
    alert = _alert(sample, findings)
    return {
        "accounting": accounting,
        "quality": _quality(sample, findings.judged),
        "rates": _rates(sample, findings.judged),
        "alert": alert,
        "latency_seconds": {tier: dict(figures) for tier, figures in findings.latency.items()},
        "throughput": {
            "seconds": round(findings.seconds, 1),
            "traces_per_second": round(len(findings.accepted) / findings.seconds, 1),
        },
        "problems": _problems(accounting, alert),
    }


def _accounting(findings: Findings) -> dict[str, int]:
    accounted = {judged.trace_id for judged in findings.judged} | findings.unjudged
    # Two counts of "lost", and the worse one is told: ids that were acknowledged and have no outcome, and
    # records that the ledger itself misses in the topic.
    missing = len(findings.accepted - accounted) - findings.accounting["dead_letters"]
    lost = max(0, missing, findings.accounting["lost"])
    return {"in": len(findings.accepted), **findings.accounting, "lost": lost}


def _quality(sample: Sample, judged: Sequence[Judged]) -> dict[str, Any]:
    truth = {labelled.trace.trace_id: labelled for labelled in sample.traces}
    services = sorted({labelled.trace.service for labelled in sample.traces})
    groups = {"all": list(judged)} | {
        service: [one for one in judged if truth[one.trace_id].trace.service == service] for service in services
    }
    return {name: _agreement(group, truth) for name, group in groups.items() if group}


def _agreement(judged: Sequence[Judged], truth: Mapping[str, LabelledTrace]) -> dict[str, Any]:
    labels = [truth[one.trace_id].hallucinated for one in judged]
    return {
        "verdicts": len(judged),
        "auroc": round(auroc([one.probability for one in judged], labels), 3),
        "balanced_accuracy": round(balanced_accuracy([one.hallucinated for one in judged], labels), 3),
    }


def _rates(sample: Sample, judged: Sequence[Judged]) -> list[dict[str, Any]]:
    verdicts = {one.trace_id: one.hallucinated for one in judged}
    groups: dict[tuple[str, str], list[LabelledTrace]] = {}
    for labelled in sample.traces:
        phase = "after" if labelled.trace.event_time >= sample.changed_at else "before"
        groups.setdefault((labelled.trace.service, phase), []).append(labelled)
    return [
        {
            "service": service,
            "phase": phase,
            "true_rate": round(sum(one.hallucinated for one in group) / len(group), 4),
            "judged": _rounded(wilson(*_count(group, verdicts))),
        }
        for (service, phase), group in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] == "after"))
    ]


def _count(group: Sequence[LabelledTrace], verdicts: Mapping[str, bool]) -> tuple[int, int]:
    known = [verdicts[one.trace.trace_id] for one in group if one.trace.trace_id in verdicts]
    return sum(known), len(known)


def _rounded(rate: Rate | None) -> dict[str, float] | None:
    return None if rate is None else {name: round(value, 4) for name, value in asdict(rate).items()}


def _alert(sample: Sample, findings: Findings) -> dict[str, Any]:
    true = [alert for alert in findings.alerts if _is_true(alert, sample)]
    false = [alert for alert in findings.alerts if not _is_true(alert, sample)]
    first = true[0] if true else None
    return {
        "fired": first is not None,
        "false_before_change": len(false),
        "changed_service": sample.changed_service,
        "changed_at": sample.changed_at.isoformat(),
        "raised_at": first.alarm.event_time.isoformat() if first else None,
        "delay_verdicts": _delay(sample, findings.judged, first.alarm.event_time) if first else None,
        "estimated_change_at": first.alarm.change_at.isoformat() if first else None,
        "rate_before": round(first.alarm.rate_before, 4) if first else None,
        "rate_after": round(first.alarm.rate_after, 4) if first else None,
        "average_run_length": first.average_run_length if first else None,
        "late_verdicts": findings.late_verdicts,
    }


def _is_true(alert: Alert, sample: Sample) -> bool:
    return alert.segment.service == sample.changed_service and alert.alarm.event_time >= sample.changed_at


def _delay(sample: Sample, judged: Sequence[Judged], raised_at: datetime) -> int:
    known = {one.trace_id for one in judged}
    return sum(
        sample.changed_at <= labelled.trace.event_time <= raised_at
        for labelled in sample.traces
        if labelled.trace.service == sample.changed_service and labelled.trace.trace_id in known
    )


def _problems(accounting: Mapping[str, int], alert: Mapping[str, Any]) -> list[str]:
    problems = []
    if accounting["lost"]:
        problems.append(f"{accounting['lost']} traces are unaccounted for")
    if accounting["in_flight"]:
        problems.append(f"{accounting['in_flight']} traces are still in flight")
    if not alert["fired"]:
        problems.append("no alert fired after the change")
    if alert["false_before_change"]:
        problems.append(f"{alert['false_before_change']} false alerts fired")
    return problems
