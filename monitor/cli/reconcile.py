"""`groundwatch reconcile`: traces that were accepted and never judged, found and put back."""

import getpass
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.ledger import ledger
from monitor.cli.main import INTERRUPTED
from monitor.cli.reconcile_view import Outcome, lines, outcome_as_json
from monitor.cli.safe_json import safe_json
from monitor.config import KafkaSettings, load_settings
from monitor.domain.errors import GroundwatchError, InvalidInput
from monitor.services.reconcile import Sending, count, find_holes, heal
from monitor.services.reconcile import accept_lost as accept
from monitor.services.reconcile_spool import empty_shelves, look_at_shelves
from monitor.services.stopping import stopping_on_signals
from monitor.storage.engine import LedgerEngine
from monitor.streaming.producer import Producer

_LOST = 1
_FOUND = 3
_STAYS = 4
_LINES_EVERY = 10


def register(app: typer.Typer) -> None:
    """Add `reconcile`."""
    app.command()(reconcile)


def reconcile(
    *,
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Put back what is found; only say what would be by default.")
    ] = False,
    spool: Annotated[
        Path | None,
        typer.Option(
            help="A stopped sidecar's spool directory, too: what it had accepted and not sent yet, and what it set"
            " aside because Kafka refused it.",
        ),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, max=86_400, help="Seconds to wait for the ledger to catch up with the judges.")
    ] = 60.0,
    rate: Annotated[
        float, typer.Option(min=0.1, max=100_000, help="Records a second that --apply puts back, at most.")
    ] = 1000.0,
    accept_lost: Annotated[
        bool,
        typer.Option(
            "--accept-lost",
            help="With --apply: what Kafka has no more ends as dead letters, and is not lost any longer.",
        ),
    ] = False,
    actor: Annotated[str | None, typer.Option(help="Who accepts that; your user name when absent.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Find traces that lie in Kafka and were passed over: no verdict, no dead letter, nothing on its way.

    With --apply exactly those records are read again and put back on the traces topic as new ones. The old offsets then
    end as duplicates of the new ones, so that the accounting adds up: `lost` goes down by as many. What Kafka has no
    more is lost, and named by partition and offsets, each time until --accept-lost ends it. Run it again at any time:
    it repeats nothing that it has finished.
    Ctrl-C ends it between two chunks of at most a hundred records.

    Exits with 0 when nothing is missing (any more), 3 when a dry run finds what --apply can put back, else 1 when
    something is lost, 4 when something stays in a spool that Kafka refuses, the disk has damaged, or only a sidecar
    can read; 130 after Ctrl-C.
    """
    settings = load_settings()
    if spool is not None and not spool.is_dir():
        raise InvalidInput(f"--spool: {spool} is no directory")
    if accept_lost and not apply:
        raise InvalidInput("--accept-lost goes with --apply; look first at what is lost, without both")
    who = (actor or _user()) if accept_lost else ""
    with ledger() as engine:
        outcome = Outcome(applied=apply, holes=find_holes(engine, settings.kafka, patience_seconds=patience))
        try:
            if apply:
                _put_back(engine, settings.kafka, outcome, spool=spool, rate=rate)
                if accept_lost and not outcome.stopped:
                    _accept(engine, outcome, actor=who)
            elif spool is not None:
                outcome.shelves = {one.directory: one for one in look_at_shelves(spool, settings.kafka)}
        except GroundwatchError as error:
            outcome.problem = str(error)
            raise
        finally:
            _tell(outcome, as_json=as_json)
    if code := _code(outcome):
        raise typer.Exit(code)


def _put_back(engine: LedgerEngine, kafka: KafkaSettings, outcome: Outcome, *, spool: Path | None, rate: float) -> None:
    of = sum(count(hole.there) for hole in outcome.holes)
    with closing(Producer(kafka)) as producer, stopping_on_signals() as stopping:
        sending = Sending(producer, rate=rate, stop=stopping)
        for number, _ in enumerate(_steps(engine, kafka, outcome, spool, sending), start=1):
            if number % _LINES_EVERY == 0:
                left = sum(shelf.sendable for shelf in outcome.shelves.values())
                spooled = f", and {left:,} of the spool" if left else ""
                typer.echo(f"put back {outcome.sent:,} of {of:,}{spooled}", err=True)
    outcome.stopped = stopping.is_set()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have a number only.
        raise InvalidInput("--actor: your user has no name here; say who accepts what is lost") from None


def _accept(engine: LedgerEngine, outcome: Outcome, *, actor: str) -> None:
    at = datetime.now(UTC)
    for place, healed in outcome.healed.items():
        outcome.accepted[place] = accept(engine, healed, actor=actor, at=at)


def _steps(
    engine: LedgerEngine, kafka: KafkaSettings, outcome: Outcome, spool: Path | None, sending: Sending
) -> Iterator[None]:
    """Keeps the outcome as it stands after each chunk: whatever ends this, what was done is told."""
    for hole in outcome.holes:
        for healed in heal(engine, kafka, hole, sending=sending):
            outcome.healed[hole.log, hole.partition] = healed
            yield
    if spool is not None:
        for shelf in empty_shelves(spool, kafka, sending=sending):
            outcome.shelves[shelf.directory] = shelf
            yield


def _tell(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        typer.echo(safe_json(outcome_as_json(outcome), indent=2))
        return
    for line in lines(outcome):
        typer.echo(line)
    if outcome.problem is not None:
        return
    if outcome.stopped:
        typer.echo("stopped; run it again, and it goes on", err=True)
    elif outcome.findable:
        typer.echo("nothing was changed; --apply puts them back", err=True)
    elif outcome.lost and not outcome.applied:
        typer.echo(
            "nothing was changed, and nothing can be put back; --apply --accept-lost closes the account", err=True
        )


def _code(outcome: Outcome) -> int:
    if outcome.stopped:
        return INTERRUPTED
    if outcome.findable:
        return _FOUND
    if outcome.lost:
        return _LOST
    return _STAYS if outcome.stays else 0
