"""`groundwatch rates`: what share of answers is hallucinated, raw and honest."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console

from monitor.cli.console import plain_table, wide_console
from monitor.cli.ledger import ledger
from monitor.domain.rate import NoRate, Rate
from monitor.services.rates import SegmentRates, segment_rates
from monitor.storage.rates import Bucket, Trust

_WIDTH = 60
_KINDS = ("raw", "corrected", "powered")


def register(app: typer.Typer) -> None:
    """Add `rates`."""
    app.command()(rates)


def rates(
    *,
    hours: Annotated[float, typer.Option(min=0.1, help="The window: so many hours of event time until now.")] = 24.0,
    skill_days: Annotated[
        float, typer.Option(min=0.1, help="The local judges' errors are taken from the trusted word of so many days.")
    ] = 30.0,
    trust: Annotated[
        Trust, typer.Option(help="Whose word on some answers is the truth: the pool's, or people's labels of a draw.")
    ] = Trust.POOL,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    service: Annotated[str | None, typer.Option(help="Only this service's.")] = None,
    by: Annotated[Bucket | None, typer.Option(help="Divide the window, and draw it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print each segment's hallucination rate with 95 % intervals: raw, corrected and prediction-powered.

    Raw is what the local judges said. Corrected takes out their errors, as the trusted word on the same answers shows
    them. Powered is the rate as whoever is trusted would say, from the few answers that they judged and what the local
    judges said of all. Where one cannot be had, the reason stands in its place.
    """
    now = datetime.now(UTC)
    with ledger() as engine:
        found = segment_rates(
            engine,
            since=now - timedelta(hours=hours),
            until=now,
            skill_since=now - timedelta(days=skill_days),
            bucket=by,
            tenant=tenant,
            service=service,
            trust=trust,
        )
    if as_json:
        for one in found:
            typer.echo(json.dumps(_as_json(one), ensure_ascii=False))
        return
    if not found:
        typer.echo(f"no verdicts in the last {hours:g} hours")
        return
    console = wide_console()
    if by is None:
        _print_table(console, found)
    else:
        for rows in _by_segment(found):
            _draw(console, rows)
    _print_reasons(console, found)


def _print_table(console: Console, found: Sequence[SegmentRates]) -> None:
    table = plain_table(["segment", "judges"], ["verdicts", "audited", *_KINDS])
    for one in found:
        cells = [_cell(getattr(one, kind)) for kind in _KINDS]
        table.add_row(str(one.segment), one.judge_version, f"{one.verdicts:,}", f"{one.audits:,}", *cells)
    console.print(table)


def _cell(rate: Rate | NoRate) -> str:
    return "-" if isinstance(rate, NoRate) else f"{rate.value:.1%} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"


def _by_segment(found: Sequence[SegmentRates]) -> list[list[SegmentRates]]:
    groups: dict[Any, list[SegmentRates]] = {}
    for one in found:
        groups.setdefault((one.segment, one.evaluator, one.judge_version), []).append(one)
    return list(groups.values())


def _draw(console: Console, rows: Sequence[SegmentRates]) -> None:
    """One line a bucket: the powered rate where there is one, else the corrected one, else the raw one."""
    first = rows[0]
    shown = [_best(one) for one in rows]
    top = max(rate.high for _, rate in shown)
    console.print(f"{first.segment}, {first.judge_version}: 0 to {top:.1%}", highlight=False)
    for one, (kind, rate) in zip(rows, shown, strict=True):
        assert one.start is not None
        line = [" "] * (_WIDTH + 1)
        left, middle, right = (round(value / top * _WIDTH) if top else 0 for value in (rate.low, rate.value, rate.high))
        line[left : right + 1] = "─" * (right + 1 - left)
        line[middle] = "●"
        console.print(
            f"{one.start:%m-%d %H:%M} │{''.join(line)}│ {rate.value:6.1%}  {kind:<9} {one.verdicts:>8,} verdicts",
            highlight=False,
        )


def _best(one: SegmentRates) -> tuple[str, Rate]:
    for kind in reversed(_KINDS):
        rate = getattr(one, kind)
        if isinstance(rate, Rate):
            return kind, rate
    return "raw", one.raw


def _print_reasons(console: Console, found: Sequence[SegmentRates]) -> None:
    reasons = {
        (kind, rate.reason): None for one in found for kind in _KINDS if isinstance(rate := getattr(one, kind), NoRate)
    }
    for kind, reason in reasons:
        console.print(f"no {kind} rate: {reason}", style="dim", highlight=False)


def _as_json(one: SegmentRates) -> dict[str, Any]:
    return {
        **asdict(one.segment),
        "evaluator": one.evaluator,
        "judge_version": one.judge_version,
        "start": one.start and one.start.isoformat(),
        "verdicts": one.verdicts,
        "estimated_verdicts": one.estimated_verdicts,
        "audits": one.audits,
        **{kind: asdict(getattr(one, kind)) for kind in _KINDS},
    }
