"""What `groundwatch reconcile` found and did, for a person and for a program."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitor.cli.console import printable
from monitor.services.reconcile import Healed, Hole, count
from monitor.services.reconcile_spool import Shelf

_SHOWN = 5


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What was found, and what became of it so far.

    Attributes:
        applied: whether it was to be put back.
        healed: by topic and partition; those that were not begun are left out.
        shelves: by their directory; those that hold nothing are left out.
        accepted: records that were accepted as lost, likewise.
        stopped: by Ctrl-C, before all was put back.
        problem: what else ended it.
    """

    applied: bool
    holes: Sequence[Hole]
    healed: dict[tuple[str, int], Healed] = field(default_factory=dict)
    shelves: dict[Path, Shelf] = field(default_factory=dict)
    accepted: dict[tuple[str, int], int] = field(default_factory=dict)
    stopped: bool = False
    problem: str | None = None

    @property
    def sent(self) -> int:
        """Records of holes that were put back."""
        return sum(one.sent for one in self.healed.values())

    @property
    def findable(self) -> bool:
        """Whether something was only found that can be put back."""
        there = any(hole.there for hole in self.holes) or any(
            shelf.sendable or shelf.broken for shelf in self.shelves.values()
        )
        return there and not self.applied

    @property
    def lost(self) -> bool:
        """Whether Kafka has some records no more, and nobody has accepted that."""
        gone = sum(count(hole.gone) for hole in self.holes) + sum(one.absent for one in self.healed.values())
        return gone > sum(self.accepted.values())

    @property
    def stays(self) -> bool:
        """Whether something stays in a spool whatever is done here."""
        return any(shelf.stays for shelf in self.shelves.values())


def outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    """The outcome as a JSON value."""
    return {
        "applied": outcome.applied,
        "stopped": outcome.stopped,
        "problem": outcome.problem,
        "holes": [_hole(hole, outcome) for hole in outcome.holes],
        "spools": [_shelf(shelf) for shelf in outcome.shelves.values()],
    }


def _hole(hole: Hole, outcome: Outcome) -> dict[str, Any]:
    healed = outcome.healed.get((hole.log, hole.partition))
    done = {name: getattr(healed, name) for name in ("sent", "settled", "absent", "left")} if healed else {}
    place = {"topic": hole.log, "partition": hole.partition}
    accepted = {"accepted_as_lost": outcome.accepted.get((hole.log, hole.partition), 0)}
    return {**place, "there": _bounds(hole.there), "lost": _bounds(hole.gone), **done, **accepted}


def _shelf(shelf: Shelf) -> dict[str, Any]:
    return {
        "directory": str(shelf.directory),
        "topic": shelf.topic,
        "waiting": shelf.waiting,
        "first_keys": list(shelf.keys),
        "whole": shelf.whole,
        "damaged": shelf.damaged,
        "refused": shelf.refused,
        "broken": shelf.broken,
        "kept_as": None if shelf.kept_as is None else str(shelf.kept_as),
    }


def _bounds(ranges: Sequence[range]) -> list[list[int]]:
    return [[one.start, one.stop - 1] for one in ranges]


def lines(outcome: Outcome) -> Iterator[str]:
    """The outcome in words."""
    for hole in outcome.holes:
        place = f"{hole.log}, partition {hole.partition}"
        if hole.there:
            yield f"{place}: {count(hole.there):,} never judged, offsets {_listed(hole.there)}"
        if hole.gone:
            yield f"{place}: {count(hole.gone):,} lost, Kafka has them no more, offsets {_listed(hole.gone)}"
    for one in outcome.healed.values():
        if one.hole.there:
            absent = f"; {one.absent:,} were not there any more, and are lost" if one.absent else ""
            left = f"; {one.left:,} are left" if one.left else ""
            yield f"partition {one.hole.partition}: put back {one.sent:,}{absent}{left}"
    for (log, partition), accepted in outcome.accepted.items():
        if accepted:
            told = f"{accepted:,} accepted as lost, and counted as dead letters from now on"
            yield f"{log}, partition {partition}: {told}"
    for shelf in outcome.shelves.values():
        said = "; ".join(_readable(shelf, applied=outcome.applied) if shelf.topic else _exports(shelf))
        yield printable(f"{shelf.directory}: {said}")
    if not outcome.holes and not outcome.shelves and outcome.problem is None:
        yield "nothing is missing"


def _readable(shelf: Shelf, *, applied: bool) -> Iterator[str]:
    sent = f", sent to {shelf.topic}" if applied else ""
    if shelf.waiting:
        more = f" and {shelf.waiting - len(shelf.keys):,} more" if shelf.waiting > len(shelf.keys) else ""
        yield f"{shelf.waiting:,} accepted and never sent until now ({', '.join(shelf.keys)}{more}){sent}"
    if shelf.whole:
        yield f"{shelf.whole:,} set aside{sent}"
    if shelf.damaged:
        yield f"{shelf.damaged:,} damaged, which stay"
    if shelf.refused:
        yield f"{shelf.refused:,} refused again, which stay"
    yield from _damage(shelf)


def _exports(shelf: Shelf) -> Iterator[str]:
    if exports := shelf.waiting + shelf.whole + shelf.damaged:
        home = shelf.directory.parent
        yield f"{exports:,} OTLP exports, which stay, for only a sidecar can read them: start one on {home}"
    yield from _damage(shelf)


def _damage(shelf: Shelf) -> Iterator[str]:
    if shelf.kept_as:
        yield f"its file was damaged; what could be read was taken from it, and it is kept as {shelf.kept_as}"
    elif shelf.broken:
        yield "its file is damaged; --apply takes from it what can be read, and keeps it beside"


def _listed(ranges: Sequence[range]) -> str:
    shown = [str(one.start) if len(one) == 1 else f"{one.start} to {one.stop - 1}" for one in ranges[:_SHOWN]]
    more = len(ranges) - _SHOWN
    return ", ".join(shown) + (f" and {more:,} more ranges" if more > 0 else "")
