"""`groundwatch status`: topics, lag, accounting, judges, segments and alerts, at one glance."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table

from monitor.cli.console import plain_table, wide_console
from monitor.cli.live import alert_line, rate_cell, sparkline
from monitor.config import Settings, load_settings
from monitor.domain.errors import LedgerUnavailable, StreamUnavailable
from monitor.services.replay_waiting import lags, positions
from monitor.storage.engine import create_ledger_engine
from monitor.storage.judges import JudgeSeen, read_judges
from monitor.storage.progress import Progress, read_progress
from monitor.storage.replays import Replay, ReplayBook
from monitor.streaming.lag import PartitionLag, group_lag
from monitor.streaming.topics import judge_group, ledger_group

_FAILED = 1


def register(app: typer.Typer) -> None:
    """Add `status`."""
    app.command()(status)


def status(
    *,
    hours: Annotated[float, typer.Option(min=0.1, help="Hours of event time that segments are shown for.")] = 24.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show how the whole system is: what waits, what was judged, what was lost, what fires.

    Kafka and Postgres are asked separately: the one that does not answer is named, the other still shown.
    Exits with 1 when one of them does not answer.
    """
    settings = load_settings()
    progress, judges, replays, ledger_error = _ledger(settings, hours)
    lag, lag_error = _lag(settings, replays)
    if as_json:
        typer.echo(json.dumps(_as_json(lag, progress, judges, [lag_error, ledger_error]), indent=2, default=str))
    else:
        _print(lag, lag_error, progress, judges, ledger_error)
    if lag_error or ledger_error:
        raise typer.Exit(_FAILED)


def _lag(settings: Settings, replays: Sequence[Replay]) -> tuple[list[tuple[str, PartitionLag]], str | None]:
    kafka = settings.kafka
    readers = {
        judge_group(kafka): [kafka.traces_topic],
        ledger_group(kafka): [kafka.judgements_topic, kafka.dead_letters_topic, kafka.feedback_topic],
    }
    try:
        found = [
            (group, partition) for group, topics in readers.items() for partition in group_lag(kafka, group, topics)
        ]
        # Of replays only those that wait for their judges: which these are, the ledger knows.
        return [*found, *lags(positions(kafka, replays), replays)], None
    except StreamUnavailable as error:
        return [], f"Kafka at {settings.kafka.bootstrap_servers}: {error}"


def _ledger(
    settings: Settings, hours: float
) -> tuple[Progress | None, Sequence[JudgeSeen], Sequence[Replay], str | None]:
    engine = create_ledger_engine(settings.postgres, application_name="groundwatch-status", pool_size=1)
    try:
        since = datetime.now(UTC) - timedelta(hours=hours)
        return read_progress(engine, since=since), read_judges(engine), ReplayBook(engine).newest(), None
    except LedgerUnavailable as error:
        return None, (), (), f"Postgres: {error}"
    finally:
        engine.dispose()


def _as_json(
    lag: Sequence[tuple[str, PartitionLag]],
    progress: Progress | None,
    judges: Sequence[JudgeSeen],
    errors: Sequence[str | None],
) -> dict[str, Any]:
    return {
        "topics": [{"group": group, **asdict(partition), "lag": partition.records} for group, partition in lag],
        "accounting": asdict(progress.accounting) if progress else None,
        "judges": [asdict(judge) for judge in judges],
        "segments": [asdict(service) for service in progress.services] if progress else None,
        "alerts": [asdict(alert) for alert in progress.alerts] if progress else None,
        "pool_waiting": progress.pool_waiting if progress else None,
        "errors": [error for error in errors if error],
    }


def _print(
    lag: Sequence[tuple[str, PartitionLag]],
    lag_error: str | None,
    progress: Progress | None,
    judges: Sequence[JudgeSeen],
    ledger_error: str | None,
) -> None:
    console = wide_console()
    if lag_error:
        console.print(lag_error, style="bold red", soft_wrap=True)
    else:
        console.print(_lag_table(lag))
    if progress is None:
        console.print(ledger_error, style="bold red", soft_wrap=True)
        return
    console.print()
    console.print(accounting_line(progress), soft_wrap=True)
    console.print(f"pool queue {progress.pool_waiting:,}")
    console.print()
    console.print(_judges_table(judges))
    console.print()
    console.print(_segments_table(progress))
    for alert in progress.alerts:
        console.print(alert_line(alert), soft_wrap=True)
    if not progress.alerts:
        console.print("no alert", style="green")


def accounting_line(progress: Progress) -> str:
    """The promise, with its numbers."""
    counted = progress.accounting
    return (
        f"accepted {counted.accepted:,} = {counted.verdicts:,} verdicts + {counted.unjudged:,} could not judge + "
        f"{counted.dead_letters:,} dead letters + {counted.duplicates:,} duplicates + {counted.in_flight:,} in flight"
        f"   (lost {counted.lost:,})"
    )


def _lag_table(lag: Sequence[tuple[str, PartitionLag]]) -> Table:
    table = plain_table(["consumer group", "topic"], ["partitions", "records", "lag"])
    for group, topic in dict.fromkeys((group, partition.topic) for group, partition in lag):
        mine = [partition for name, partition in lag if (name, partition.topic) == (group, topic)]
        behind = sum(partition.records for partition in mine)
        table.add_row(group, topic, str(len(mine)), f"{sum(partition.end for partition in mine):,}", f"{behind:,}")
    return table


def _judges_table(judges: Sequence[JudgeSeen]) -> Table:
    table = plain_table(["judge", "tier", "model", "quantisation"], ["judgements", "could not judge"])
    for judge in judges:
        table.add_row(
            judge.version,
            judge.tier,
            judge.model,
            judge.quantisation or "-",
            f"{judge.judgements:,}",
            f"{judge.could_not_judge:,}",
        )
    return table


def _segments_table(progress: Progress) -> Table:
    table = plain_table(["segment", "judge version"], ["verdicts", "could not judge", "hallucinated (95 %)"])
    table.add_column("trend", no_wrap=True)
    for service in progress.services:
        table.add_row(
            str(service.segment),
            service.judge_version,
            f"{service.verdicts:,}",
            f"{service.unjudged:,}",
            rate_cell(service.hallucinated, service.verdicts),
            sparkline(service),
        )
    return table
