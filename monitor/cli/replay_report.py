"""How a replay's report looks."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from monitor.cli.console import plain_table, printable, wide_console
from monitor.domain.rate import Rate
from monitor.services.replay_report import Comparison, ReplayReport
from monitor.storage.replays_report import Changed

_SHOWN_CHARACTERS = 110


def print_report(report: ReplayReport) -> None:
    """The report as tables on standard output."""
    console = wide_console()
    whole, counts = report.whole, report.whole.counts
    console.print(
        f"{counts.selected:,} traces with a verdict of another version than {report.replay.judge_version}: "
        f"{whole.n:,} judged by both, {counts.missing:,} still missing, {counts.unjudged:,} it could not judge, "
        f"{counts.pending:,} wait for the pool, {counts.newly_judged:,} only it has judged",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    if (own := report.own) is not None:
        console.print(
            f"{own.judged + own.unjudged:,} traces that {report.replay.judge_version} itself could not judge at first: "
            f"{own.judged:,} it has judged since, {own.unjudged:,} it still could not",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
        if not counts.selected:
            return
    table = plain_table(
        ["segment", "old version"],
        ["judged by both", "agree", "kappa", "hallucinated before", "now", "to hallucinated", "to faithful", "missing"],
    )
    for one in report.segments:
        table.add_row(Text(printable(str(one.segment))), Text(printable(one.old_version)), *_cells(one.comparison))
    if len(report.segments) != 1:
        table.add_row("all", "", *_cells(whole))
    console.print(table)
    if report.clearest:
        console.print("\nclearest changes", highlight=False)
    for changed in report.clearest:
        _print_changed(console, changed)


def _cells(compared: Comparison) -> list[str]:
    return [
        f"{compared.n:,}",
        _rate(compared.agreement),
        "-" if compared.kappa is None else f"{compared.kappa:.3f}",
        _rate(compared.old_rate),
        _rate(compared.new_rate),
        f"{compared.counts.now_hallucinated:,}",
        f"{compared.counts.now_faithful:,}",
        f"{compared.counts.missing:,}",
    ]


def _rate(rate: Rate | None) -> str:
    return "-" if rate is None else f"{rate.value:.1%} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"


def _print_changed(console: Console, changed: Changed) -> None:
    console.print(
        f"{changed.segment} {changed.trace_id}: {changed.old_label} {changed.old_probability:.3f} → "
        f"{changed.new_label} {changed.new_probability:.3f}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    for name, words in (("Q", changed.question), ("A", changed.answer)):
        if words is not None:
            console.print(f"  {name} {printable(words)[:_SHOWN_CHARACTERS]}", highlight=False, markup=False)


def report_as_json(report: ReplayReport) -> dict[str, Any]:
    """The report as a JSON value."""
    return {
        "replay": report.replay.as_json(),
        "own": None if report.own is None else asdict(report.own),
        "whole": _compared_as_json(report.whole),
        "segments": [
            {**asdict(one.segment), "old_version": one.old_version, **_compared_as_json(one.comparison)}
            for one in report.segments
        ],
        "clearest": [
            {**asdict(changed), "segment": asdict(changed.segment), "event_time": changed.event_time.isoformat()}
            for changed in report.clearest
        ],
    }


def _compared_as_json(compared: Comparison) -> dict[str, Any]:
    return {
        "n": compared.n,
        **asdict(compared.counts),
        "kappa": compared.kappa,
        **{
            name: None if (rate := getattr(compared, name)) is None else asdict(rate)
            for name in ("agreement", "old_rate", "new_rate")
        },
    }
