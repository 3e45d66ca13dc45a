"""What a person watches: rates per service with their intervals, and the alerts."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from monitor.cli.console import plain_table
from monitor.domain.alert import Alert
from monitor.domain.rate import wilson
from monitor.storage.progress import Progress, ServiceProgress

_BARS = "▁▂▃▄▅▆▇█"
_RECENT_MINUTES = 30
_SPARK_BUCKETS = 24


def progress_view(progress: Progress, *, headline: str, notes: Sequence[str] = ()) -> Group:
    """One screen: a headline, a table of services, what the reader should know, and the alerts."""
    parts: list[RenderableType] = [Text(headline, style="bold"), _services(progress.services)]
    parts += [Text(note, style="dim") for note in notes]
    parts += [alert_line(alert) for alert in progress.alerts] or [Text("no alert", style="green")]
    return Group(*parts)


def alert_line(alert: Alert) -> Text:
    """One alert in one line."""
    alarm = alert.alarm
    return Text(
        f"⚠ {alert.state.value} {alert.segment.service}: hallucination rate {_percent(alarm.rate_before)} → "
        f"{_percent(alarm.rate_after)} since about {alarm.change_at:%H:%M} "
        f"(raised at {alarm.event_time:%H:%M}; a false alarm at most every {alert.average_run_length:,.0f} verdicts)",
        style="bold red" if alert.state.value == "firing" else "yellow",
    )


def _services(services: Sequence[ServiceProgress]) -> Table:
    table = plain_table(["service"], ["verdicts", "hallucinated (95 %)", f"last {_RECENT_MINUTES} min (95 %)"])
    table.add_column("trend", no_wrap=True)
    for service in services:
        recent = service.minutes[-_RECENT_MINUTES:]
        table.add_row(
            service.segment.service,
            f"{service.verdicts:,}",
            rate_cell(service.hallucinated, service.verdicts),
            rate_cell(sum(minute.hallucinated for minute in recent), sum(minute.verdicts for minute in recent)),
            sparkline(service),
        )
    return table


def rate_cell(hallucinated: int, verdicts: int) -> str:
    """`12.3 % (9.8 to 15.2)`, or a dash when there is nothing to take a rate of."""
    rate = wilson(hallucinated, verdicts)
    return "-" if rate is None else f"{_percent(rate.value)} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"


def sparkline(service: ServiceProgress) -> str:
    """The rate over all minutes so far, in at most 24 bars; a full bar is 50 % and more."""
    minutes = service.minutes
    width = max(1, -(-len(minutes) // _SPARK_BUCKETS))
    bars = ""
    for start in range(0, len(minutes), width):
        bucket = minutes[start : start + width]
        verdicts = sum(minute.verdicts for minute in bucket)
        share = sum(minute.hallucinated for minute in bucket) / verdicts if verdicts else 0.0
        bars += _BARS[min(len(_BARS) - 1, int(share * 2 * len(_BARS)))]
    return bars


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
