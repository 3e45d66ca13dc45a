"""`groundwatch export`: the verdict history as Parquet files."""

import json
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.ledger import ledger
from monitor.domain.errors import InvalidInput
from monitor.lake.directory import ExportDirectory, open_directory
from monitor.lake.manifest import Scope
from monitor.services.export_check import Standing, check_export
from monitor.services.exporting import Exported, Exporter
from monitor.storage.engine import LedgerEngine

_DIFFERENT = 1
_SHOWN = 20
_WARNING = (
    "warning: {count:,} hours from {first:%Y-%m-%dT%H} to {last:%Y-%m-%dT%H} UTC have counts, but not all their {name} "
    "any more: they had expired before they were exported. Export more often than retention takes days away "
    "(retention.verdict_days, retention.payload_days, retention.tenants)"
)


def register(app: typer.Typer) -> None:
    """Add `export`."""
    app.command()(export)


def export(
    *,
    to: Annotated[Path, typer.Option(help="The directory; made where it is absent.")],
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only hours of event time from this one on, in UTC: 2026-11-01 or 2026-11-01T06:00."),
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="Also what was asked, read and answered, as the dataset `texts`.")
    ] = False,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt",
            help="After pg_upgrade or a restore: take this ledger for the directory's own, and write every hour anew.",
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Export nothing: count the files and the ledger; exit with 1 if they differ."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write the verdict history as Parquet files, and the next time only the hours that changed.

    DIR gets the datasets `verdicts`, `judgements` and `rollups` (counts and rates per minute), each in folders
    `day=2026-11-28` with one file an hour of event time, and `_groundwatch.json`, which says how far it has come.
    A verdict that came late or was revised has its hour written anew. What the ledger has dropped stays in the files.
    A run that was killed leaves whole hours; the next one goes on. Each directory takes one ledger and one choice of
    --tenant, --since and --texts; --verify takes those of the directory.

    DuckDB: select label, count(*) from read_parquet('DIR/verdicts/*/*.parquet') group by label.
    """
    if verify and adopt:
        raise InvalidInput("--verify and --adopt: one of the two")
    if verify and not to.is_dir():
        raise InvalidInput(f"{to}: is no directory, so there is nothing to verify")
    scope = Scope(tenant=tenant, texts=texts, since=_hour(since))
    with ledger() as engine, open_directory(to) as directory:
        if verify:
            _verify(engine, directory, as_json=as_json)
            return
        done = Exporter(engine, directory, scope, clock=time.monotonic, adopt=adopt).run(_tell_day)
        manifest = directory.manifest
    _tell("total", done)
    for name, hours in done.too_late.items():
        typer.echo(_WARNING.format(count=len(hours), name=name, first=min(hours), last=max(hours)), err=True)
    if as_json and manifest:
        summary = {
            "too_late": {name: [hour.isoformat() for hour in hours] for name, hours in done.too_late.items()},
            "watermark": manifest.watermark,
            "hours_held": len(manifest.hours),
            "rows_per_second": done.pace,
        }
        typer.echo(json.dumps(asdict(done) | summary))


def _hour(text: str | None) -> datetime | None:
    """The beginning of the hour that a text names."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"--since: {text!r} is no day or time such as 2026-11-01 or 2026-11-01T06:00") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(minute=0, second=0, microsecond=0)


def _tell_day(day: date, done: Exported) -> None:
    _tell(day.isoformat(), done)


def _tell(what: str, done: Exported) -> None:
    rows = "  ".join(f"{count:,} {name}" for name, count in done.rows.items())
    kept = f"  {done.kept:,} of them no longer in the ledger" if done.kept else ""
    speed = f"{done.pace:,.0f} rows/s" if done.hours else "nothing has changed"
    typer.echo(
        f"{what}  {done.hours:,} hours  {rows}{kept}  {done.size / 1e6:,.1f} MB  {done.seconds:,.1f} s  {speed}",
        err=True,
    )


def _verify(engine: LedgerEngine, directory: ExportDirectory, *, as_json: bool) -> None:
    standings: Counter[Standing] = Counter()
    different = []
    for checked in check_export(engine, directory):
        standings[checked.standing] += 1
        if checked.standing is Standing.DIFFERENT:
            different.append(checked)
    for checked in different[:_SHOWN]:
        files, found = (one and asdict(one) for one in (checked.exported, checked.ledger))
        spoiled = f"; damaged, or not of as many rows as were written: {', '.join(checked.spoiled)}"
        typer.echo(
            f"{checked.hour:%Y-%m-%dT%H}: files {files}, ledger {found}{spoiled if checked.spoiled else ''}", err=True
        )
    if as_json:
        hours = [asdict(checked) | {"hour": checked.hour.isoformat()} for checked in different]
        typer.echo(json.dumps({**{one.value: standings[one] for one in Standing}, "hours": hours}))
    else:
        typer.echo(", ".join(f"{standings[one]:,} hours {_WORDS[one]}" for one in Standing), err=True)
    if different:
        raise typer.Exit(_DIFFERENT)


_WORDS = {
    Standing.EQUAL: "equal the ledger's",
    Standing.BEHIND: "have changed since",
    Standing.KEPT: "are no longer in the ledger",
    Standing.EXPIRED: "had expired in part before they were exported",
    Standing.DIFFERENT: "differ",
}
