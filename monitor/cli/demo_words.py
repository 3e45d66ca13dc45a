"""The demo in words: what a person reads above the live view, and at the end."""

from collections.abc import Iterator, Mapping
from typing import Any

from monitor.embedded.run import DemoRun
from monitor.storage.progress import Progress


def headline(run: DemoRun, progress: Progress) -> str:
    """How far the run is, in one line."""
    counted = progress.accounting
    ended = counted.verdicts + counted.unjudged + counted.dead_letters + counted.duplicates
    accepted = len(run.replay.accepted)
    return (
        f"{run.seconds:5.0f} s   {accepted:,} of {len(run.sample.traces):,} traces sent   "
        f"{counted.verdicts:,} verdicts   lag {max(0, accepted - ended):,}   pool queue {progress.pool_waiting:,}   "
        f"alerts {len(progress.alerts)}"
    )


def notes(run: DemoRun) -> list[str]:
    """What the watcher should know: when the change comes, or that it has come."""
    sample = run.sample
    before = sum(labelled.trace.event_time < sample.changed_at for labelled in sample.traces)
    moment = f"{sample.changed_at:%H:%M} service time"
    if len(run.replay.accepted) < before:
        return [f"{sample.changed_service} will begin to make things up at {moment} ({before:,} traces in)"]
    return [f"▲ {sample.changed_service} began to make things up at {moment}"]


def conclusion(report: Mapping[str, Any], *, held: bool) -> Iterator[str]:
    """What was shown, in plain sentences with rich's markup."""
    yield ""
    yield from _accounting(report["accounting"])
    yield from _rates(report)
    yield from _alert(report["alert"])
    yield from _work(report)
    if held:
        yield f"[bold]SQL[/bold]        until Ctrl-C:  {report['psql']} -c 'table report.accounting'"
    else:
        yield "[bold]SQL[/bold]        add --hold (make demo ARGS=--hold) to stay up and be told the psql command"
    if report["problems"]:
        yield "[bold red]FAILED[/bold red]     " + "; ".join(report["problems"])
    else:
        yield "[bold green]OK[/bold green]         every trace is accounted for, and the alert came after the change"


def _accounting(counted: Mapping[str, int]) -> Iterator[str]:
    yield (
        f"[bold]Accounting[/bold] {counted['in']:,} in = {counted['verdicts']:,} verdicts + {counted['unjudged']:,} "
        f"could not judge + {counted['dead_letters']:,} dead letters + {counted['duplicates']:,} duplicates + "
        f"{counted['in_flight']:,} in flight; {counted['lost']:,} lost"
    )


def _rates(report: Mapping[str, Any]) -> Iterator[str]:
    heading = "[bold]Rates[/bold]     "
    for rate in report["rates"]:
        judged = rate["judged"]
        said = (
            f"judged {100 * judged['value']:4.1f} % ({100 * judged['low']:.1f} to {100 * judged['high']:.1f})"
            if judged
            else "not judged"
        )
        yield f"{heading} {rate['service']:<14} {rate['phase']:<7} true {100 * rate['true_rate']:4.1f} %   {said}"
        heading = " " * 10
    heading = "[bold]Judges[/bold]    "
    for group, quality in report["quality"].items():
        yield (
            f"{heading} {group:<14} AUROC {quality['auroc']:.3f}   balanced accuracy "
            f"{quality['balanced_accuracy']:.3f}   over {quality['verdicts']:,} verdicts"
        )
        heading = " " * 10


def _alert(alert: Mapping[str, Any]) -> Iterator[str]:
    if not alert["fired"]:
        late = f"{alert['late_verdicts']:,} verdicts came too late for the detector"
        yield f"[bold]Alert[/bold]      none after {alert['changed_service']} changed at {alert['changed_at']}; {late}"
        return
    yield (
        f"[bold]Alert[/bold]      {alert['changed_service']}: {100 * alert['rate_before']:.1f} % → "
        f"{100 * alert['rate_after']:.1f} %, raised {alert['delay_verdicts']} verdicts after the change; "
        f"{alert['false_before_change']} false; at most one false alarm in {alert['average_run_length']:,.0f} verdicts"
    )


def _work(report: Mapping[str, Any]) -> Iterator[str]:
    tiers = "   ".join(
        f"{tier} p50 {1000 * seen['p50']:,.1f} ms, p95 {1000 * seen['p95']:,.1f} ms ({seen['judgements']:,})"
        for tier, seen in report["latency_seconds"].items()
    )
    speed = report["throughput"]
    yield f"[bold]Latency[/bold]    {tiers}"
    paced = f"{speed['traces_per_second']:.1f} traces/s, paced by the replay, over {speed['seconds']:.0f} s"
    yield f"[bold]Throughput[/bold] {paced}"
