"""`groundwatch verify`: whether what is counted still says what the rows say."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from monitor.cli.console import printable, progress
from monitor.cli.main import INTERRUPTED
from monitor.cli.moments import moment
from monitor.cli.safe_json import safe_json
from monitor.config import load_settings
from monitor.domain.errors import InvalidInput, LedgerUnavailable
from monitor.storage.engine import create_ledger_engine
from monitor.storage.recount import MOST_KEPT, Found
from monitor.storage.verifying import RecountTooSlow, Step, Verification

_DIFFERENT = 1
_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add `verify`."""
    app.command()(verify)


def verify(
    *,
    since: Annotated[
        str | None, typer.Option(help="From this day of event time on: 2026-03-01, or 30d for so long ago.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to this day of event time, without it.")] = None,
    patience: Annotated[
        float,
        typer.Option(min=1, max=86_400, help="Seconds that one query, of one day or block, may take in Postgres."),
    ] = 600.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Count verdicts, judgements and receipts again, and name every rollup or counter that says otherwise.

    It changes nothing and may run while workers write. A day is one snapshot, so that years need not be read at
    once; --since and --until are widened to whole UTC days. Receipts know no event time: the accounting is always
    recounted whole, by partition; and receipts of verdicts that are not there are looked for only without --since and
    --until. What takes longer than --patience is left out, named, and the rest is counted.

    Exits with 1 when something differs, or could not be counted.
    """
    now = datetime.now(UTC)
    begin, end = moment(since, "--since", now=now), moment(until, "--until", now=now)
    if begin is not None and end is not None and begin >= end:
        raise InvalidInput("--since is not before --until: nothing to verify")
    postgres = load_settings().postgres.model_copy(update={"statement_timeout_seconds": patience})
    engine = create_ledger_engine(postgres, application_name="groundwatch-verify", pool_size=1)
    try:
        verification = Verification(engine, since=begin, until=end)
        told = _recount(verification.steps(), quiet=as_json)
    except RecountTooSlow as error:
        raise NotAllCounted(f"{error}; give it longer with --patience") from error
    finally:
        engine.dispose()
    days = len(verification.days)
    if as_json:
        typer.echo(safe_json(_as_json(told, days), indent=2))
    else:
        typer.echo(f"{days:,} days recounted: {_sum(told)}")
    if told.interrupted:
        raise typer.Exit(INTERRUPTED)
    if told.not_counted:
        raise NotAllCounted(_left_out(told.not_counted, told.problem))
    if told.found.total:
        raise typer.Exit(_DIFFERENT)


class NotAllCounted(LedgerUnavailable):
    """A recount could not do all of its steps."""


@dataclass(kw_only=True, slots=True)
class _Told:
    found: Found = field(default_factory=Found)
    not_counted: list[str] = field(default_factory=list)
    problem: str | None = None
    interrupted: bool = False


def _recount(steps: Sequence[Step], *, quiet: bool) -> _Told:
    """Every step, each told as soon as it is known; what fails takes nothing of the others along."""
    told = _Told()
    with progress("recounting", len(steps), 0) as advance:
        for number, step in enumerate(steps):
            try:
                found = step.recount()
            except RecountTooSlow as error:
                told.not_counted.append(step.about)
                told.problem = f"{error}; give it longer with --patience"
                _narrate(f"{step.about}: not counted: {error}")
            except LedgerUnavailable as error:
                told.not_counted += [one.about for one in steps[number:]]
                told.problem = str(error)
                break
            except KeyboardInterrupt:
                told.not_counted += [one.about for one in steps[number:]]
                told.interrupted = True
                break
            else:
                told.found += found
                _tell(step.about, found, quiet=quiet)
            advance()
    return told


def _tell(about: str, found: Found, *, quiet: bool) -> None:
    if found.total:
        _narrate(f"{about}: {found.total:,} differ")
    if quiet:
        return
    for one in found.differences[:_SHOWN]:
        typer.echo(printable(f"{one.table} {one.key}: {_difference(one.stored, one.counted)}"))
    if found.total > _SHOWN:
        typer.echo(
            printable(f"and {found.total - _SHOWN:,} more in {about}; --json has the first {MOST_KEPT:,} of all")
        )


def _narrate(line: str) -> None:
    # The bar stands in this line, and comes back below.
    bar = "\r\x1b[2K" if sys.stderr.isatty() else ""
    typer.echo(bar + printable(line), err=True)


def _sum(told: _Told) -> str:
    if told.found.total:
        return f"{told.found.total:,} rows differ"
    return "what was counted is as the rows say" if told.not_counted else "all as the rows say"


def _left_out(abouts: Sequence[str], problem: str | None) -> str:
    more = f" and {len(abouts) - _SHOWN:,} more" if len(abouts) > _SHOWN else ""
    return printable(f"not counted: {', '.join(abouts[:_SHOWN])}{more}: {problem}")


def _as_json(told: _Told, days: int) -> dict[str, Any]:
    return {
        "days": days,
        "differing": told.found.total,
        "differences": [asdict(one) for one in told.found.differences],
        "not_counted": told.not_counted,
        "problem": told.problem,
    }


def _difference(stored: dict[str, Any] | None, counted: dict[str, Any] | None) -> str:
    if stored is None:
        return "missing; the rows say that there is one"
    if counted is None:
        return "there, and no rows under it"
    changed = [name for name in counted if stored.get(name) != counted[name]]
    return ", ".join(f"{name} {stored.get(name)}, counted {counted[name]}" for name in changed)
