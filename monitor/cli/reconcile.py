"""`groundwatch reconcile`: traces that were accepted and never judged, found and put back."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.cli.ledger import ledger
from monitor.config import load_settings
from monitor.domain.errors import InvalidInput
from monitor.services.reconcile import Healed, Hole, count, find_holes, heal
from monitor.services.reconcile_spool import Shelf, empty_shelves
from monitor.streaming.producer import Producer

_SHOWN = 5


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
            help="A stopped sidecar's spool directory, too: what it set aside because Kafka refused it.",
        ),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, max=86_400, help="Seconds to wait for the ledger to catch up with the judges.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Find traces that lie in Kafka and were passed over: no verdict, no dead letter, nothing on its way.

    With --apply exactly those records are read again and put back on the traces topic as new ones. The old offsets then
    end as duplicates of the new ones, so that the accounting adds up: `lost` goes down by as many. What Kafka has no
    more is lost, and named by partition and offsets. Run it again at any time: it repeats nothing that it has finished.

    Exits with 1 when something is lost.
    """
    settings = load_settings()
    if spool is not None and not spool.is_dir():
        raise InvalidInput(f"--spool: {spool} is no directory")
    with ledger() as engine, closing(Producer(settings.kafka)) as producer:
        holes = find_holes(engine, settings.kafka, patience_seconds=patience)
        healed = [heal(engine, settings.kafka, hole, producer=producer) for hole in holes] if apply else []
        shelves = (
            list(empty_shelves(spool, settings.kafka, producer=producer if apply else None))
            if spool is not None
            else []
        )
    if as_json:
        typer.echo(json.dumps(_as_json(holes, healed, shelves, apply=apply), ensure_ascii=False, indent=2))
    else:
        _print(holes, healed, shelves, apply=apply)
    if any(hole.gone for hole in holes) or any(one.absent for one in healed):
        raise typer.Exit(1)


def _as_json(
    holes: Sequence[Hole], healed: Sequence[Healed], shelves: Sequence[Shelf], *, apply: bool
) -> dict[str, Any]:
    done = {(one.hole.log, one.hole.partition): one for one in healed}
    return {
        "applied": apply,
        "holes": [
            {
                "topic": hole.log,
                "partition": hole.partition,
                "there": _bounds(hole.there),
                "lost": _bounds(hole.gone),
                **(
                    {"sent": one.sent, "settled": one.settled, "absent": one.absent}
                    if (one := done.get((hole.log, hole.partition)))
                    else {}
                ),
            }
            for hole in holes
        ],
        "spools": [
            {
                "directory": str(shelf.directory),
                "topic": shelf.topic,
                "whole": shelf.whole,
                "damaged": shelf.damaged,
                "refused": shelf.refused,
            }
            for shelf in shelves
        ],
    }


def _bounds(ranges: Sequence[range]) -> list[list[int]]:
    return [[one.start, one.stop - 1] for one in ranges]


def _print(holes: Sequence[Hole], healed: Sequence[Healed], shelves: Sequence[Shelf], *, apply: bool) -> None:
    for hole in holes:
        place = f"{hole.log}, partition {hole.partition}"
        if hole.there:
            typer.echo(f"{place}: {count(hole.there):,} never judged, offsets {_listed(hole.there)}")
        if hole.gone:
            typer.echo(f"{place}: {count(hole.gone):,} lost, Kafka has them no more, offsets {_listed(hole.gone)}")
    for one in healed:
        absent = f"; {one.absent:,} were not there any more, and are lost" if one.absent else ""
        typer.echo(f"partition {one.hole.partition}: put back {one.sent:,}{absent}")
    for shelf in shelves:
        typer.echo(f"{shelf.directory}: {_shelved(shelf, apply=apply)}")
    if not holes and not shelves:
        typer.echo("nothing is missing")
    elif not apply:
        typer.echo("nothing was changed; --apply puts them back", err=True)


def _shelved(shelf: Shelf, *, apply: bool) -> str:
    if shelf.topic is None:
        return (
            f"{shelf.whole + shelf.damaged:,} OTLP exports were set aside; they stay, for only a sidecar can read them"
        )
    words = [f"{shelf.whole:,} set aside" + (f", sent to {shelf.topic}" if apply else "")]
    words += [f"{shelf.damaged:,} damaged, which stay"] if shelf.damaged else []
    words += [f"{shelf.refused:,} refused again, which stay"] if shelf.refused else []
    return "; ".join(words)


def _listed(ranges: Sequence[range]) -> str:
    shown = [str(one.start) if len(one) == 1 else f"{one.start} to {one.stop - 1}" for one in ranges[:_SHOWN]]
    more = len(ranges) - _SHOWN
    return ", ".join(shown) + (f" and {more:,} more ranges" if more > 0 else "")
