"""`groundwatch drift explain`: what is behind an alert, for a person to look at."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from monitor.cli.console import plain_table, printable, wide_console
from monitor.cli.ledger import ledger
from monitor.domain.alert import Alert, AlertState
from monitor.domain.errors import InvalidInput
from monitor.domain.explanation import Cause
from monitor.domain.rate import Rate, wilson
from monitor.services.confirming import in_words
from monitor.services.explaining import course, explain
from monitor.storage.alerts import find_alert
from monitor.storage.excerpts import Excerpt, read_excerpts
from monitor.storage.segment_keys import SegmentKey
from monitor.storage.slices import Course, newest_minute
from monitor.wire import alert_to_json

_WIDTH = 50
_EXCERPT = 300


def explain_alert(
    alert_id: Annotated[str, typer.Argument(metavar="ALERT", help="As `groundwatch alerts list` shows it.")],
    *,
    as_raised: Annotated[
        bool, typer.Option("--as-raised", help="What was known when the alert was raised, instead of what is now.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say which slices of the traffic explain an alert, draw the rate around the change, and show answers to look at.

    A slice is one value of a dimension of drift.dimensions. It is named when its rate rose by more than that of all
    other traffic, with the chance of naming any wrongly held at 5 %. An open alert is explained from all verdicts since
    the change, a resolved one as it was when it was raised.
    """
    with ledger() as engine:
        alert = find_alert(engine, alert_id)
        if alert is None:
            raise InvalidInput(f"there is no alert {alert_id!r}; see groundwatch alerts list")
        key = SegmentKey(segment=alert.segment, evaluator=alert.evaluator, judge_version=alert.judge_version)
        stored = as_raised or alert.state is AlertState.RESOLVED
        until = alert.alarm.event_time if stored else newest_minute(engine, key) or alert.alarm.event_time
        explanation = alert.explanation if stored else explain(engine, key, alert.alarm, until=until, part=alert.part)
        rates = course(engine, key, alert.alarm, until=until, part=alert.part)
        ids = [example.trace_id for example in explanation.examples]
        excerpts = read_excerpts(engine, alert.segment.tenant, ids, characters=_EXCERPT)
    if as_json:
        shown = alert_to_json(replace(alert, explanation=explanation)) | {
            "course": [asdict(one) for one in rates],
            "excerpts": {trace_id: asdict(excerpt) for trace_id, excerpt in excerpts.items()},
        }
        typer.echo(json.dumps(shown, ensure_ascii=False, default=_plain))
        return
    console = wide_console()
    _print_head(console, alert)
    _draw(console, rates, alert)
    _print_causes(console, explanation.causes)
    _print_examples(console, ids, excerpts)


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")


def _say(console: Console, text: str = "", style: str = "") -> None:
    # Text, not markup: names and answers are anybody's.
    console.print(Text(printable(text), style=style))


def _print_head(console: Console, alert: Alert) -> None:
    alarm = alert.alarm
    since = f"{alarm.change_at:%Y-%m-%d %H:%M} UTC"
    if alarm.change_earliest and alarm.change_latest:
        since += f" ({alarm.change_earliest:%H:%M} to {alarm.change_latest:%H:%M})"
    _say(console, f"{alert.subject}: {alarm.rate_before:.1%} → {alarm.rate_after:.1%} since {since}", "bold")
    _say(console, f"alert {alert.alert_id}, {alert.state.value}; evaluator {alert.evaluator}, {alert.judge_version}")
    _say(
        console,
        f"raised by {alarm.event_time:%Y-%m-%d %H:%M} after {alarm.delay_verdicts:,} verdicts since the change;"
        f" evidence {alarm.evidence:.1f}",
    )
    if alert.confirmation is not None:
        _say(console, in_words(alert.confirmation))


def _draw(console: Console, rates: Sequence[Course], alert: Alert) -> None:
    bars = [(one, wilson(one.hallucinated, one.total)) for one in rates]
    top = max((rate.high for _, rate in bars if rate), default=0.0)
    if not top:
        return
    _say(console)
    _say(console, f"hallucination rate, 0 to {top:.0%}, with its 95 % interval", "bold")
    for one, rate in bars:
        mark = "◀ change" if one.start <= alert.alarm.change_at < one.end else ""
        _say(console, f"{one.start:%m-%d %H:%M} │{_bar(rate, top)}│ {_share(rate)} {one.total:>8,} verdicts {mark}")


def _bar(rate: Rate | None, top: float) -> str:
    line = [" "] * (_WIDTH + 1)
    if rate is not None:
        left, middle, right = (round(value / top * _WIDTH) for value in (rate.low, rate.value, rate.high))
        line[left : right + 1] = "─" * (right + 1 - left)
        line[middle] = "●"
    return "".join(line)


def _share(rate: Rate | None) -> str:
    return "   -  " if rate is None else f"{rate.value:6.1%}"


def _print_causes(console: Console, causes: Sequence[Cause]) -> None:
    _say(console)
    if not causes:
        _say(console, "no slice of the traffic rose by more than the rest", "bold")
        return
    _say(console, "what rose by more than the rest", "bold")
    table = plain_table(["slice"], ["before", "after", "more than the rest by", "p (Holm)", "explains"])
    for cause in causes:
        table.add_row(
            Text(printable(f"{cause.dimension} = {cause.value}")),
            _share(cause.before).strip() if cause.before else "new",
            f"{cause.after.value:.1%} of {cause.after.n:,}",
            f"{cause.effect:+.1%} ({cause.low:+.1%} to {cause.high:+.1%})",
            f"{cause.p_value:.1g}",
            f"{cause.explains:.0%} of the excess",
        )
    console.print(table)


def _print_examples(console: Console, ids: Sequence[str], excerpts: dict[str, Excerpt]) -> None:
    if not ids:
        return
    _say(console)
    _say(console, "the clearest examples since the change", "bold")
    for number, trace_id in enumerate(ids, 1):
        excerpt = excerpts.get(trace_id)
        _say(console, f"{number}. {trace_id}", "cyan")
        if excerpt is None:
            _say(console, "   its texts are no longer kept", "dim")
            continue
        _say(console, f"   asked:    {excerpt.question}")
        _say(console, f"   answered: {excerpt.answer}")
        if excerpt.reasoning:
            _say(console, f"   because:  {excerpt.reasoning}", "dim")
