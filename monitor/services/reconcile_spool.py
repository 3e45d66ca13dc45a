"""What a stopped sidecar left on its disk, sent after all: what it had accepted, then what it had set aside."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from monitor.config import KafkaSettings
from monitor.domain.errors import RecordRefused, StreamUnavailable
from monitor.ingest.forward import DAMAGED
from monitor.ingest.spool_records import Entry, SetAside, Spooled
from monitor.ingest.spool_stopped import DamagedSpool, LeftBehind, SpoolRemains, look_into, take_over
from monitor.services.reconcile import DELIVERY_SECONDS, Sending, deliver
from monitor.services.sending import Sender

_AT_ONCE = 100
_NAMED = 5
_Record = TypeVar("_Record", Spooled, SetAside)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """What was left in one spool.

    Attributes:
        directory: the spool's.
        topic: where they go; None for OTLP exports, which only a sidecar can read: they stay.
        waiting: records that were accepted and never sent; they can be sent, or were.
        keys: of the first of these: tenant and id of the trace.
        whole: records that were set aside as they were accepted; they can be sent, or were.
        damaged: records that the disk has changed: they stay.
        refused: records that Kafka refuses still: they stay.
        broken: whether the file's structure is, or was, damaged.
        kept_as: the damaged file, once what can be read was taken from it.
    """

    directory: Path
    topic: str | None
    waiting: int = 0
    keys: tuple[str, ...] = ()
    whole: int = 0
    damaged: int = 0
    refused: int = 0
    broken: bool = False
    kept_as: Path | None = None

    @property
    def sendable(self) -> int:
        """How many can be sent, or were."""
        return self.waiting + self.whole if self.topic is not None else 0

    @property
    def stays(self) -> bool:
        """Whether anything is left in it that only a person or a sidecar can help."""
        left = self.damaged + self.refused + (self.waiting + self.whole if self.topic is None else 0)
        return bool(left or self.broken)


def spools(root: Path, kafka: KafkaSettings) -> dict[Path, str | None]:
    """A sidecar's spools below its `sidecar.spool_directory`, with the topic of each."""
    return {
        root: kafka.traces_topic,
        root / "assembled": kafka.traces_topic,
        root / "feedback": kafka.feedback_topic,
        root / "spans": None,
    }


def look_at_shelves(root: Path, kafka: KafkaSettings) -> Iterator[Shelf]:
    """Count what was left, and change nothing. Empty spools are left out.

    Raises:
        SpoolUnavailable: its sidecar is running, or a spool cannot be read.
    """
    for directory, topic in spools(root, kafka).items():
        shelf = Shelf(directory=directory, topic=topic)
        try:
            with look_into(directory) as spool:
                if spool is None:
                    continue
                *_, shelf = shelf, *_counted(spool, shelf)
        except DamagedSpool:
            shelf = replace(shelf, broken=True)
        if shelf.sendable or shelf.stays:
            yield shelf


def empty_shelves(root: Path, kafka: KafkaSettings, *, sending: Sending) -> Iterator[Shelf]:
    """Send what was left, in order, and forget each record once Kafka has it. Empty spools are left out.

    Yields each spool as it stands after a chunk: the last of a directory is what it came to.

    Raises:
        SpoolUnavailable: its sidecar is running, or a spool cannot be read or written.
        StreamUnavailable: what was not acknowledged is still there.
    """
    for directory, topic in spools(root, kafka).items():
        with take_over(directory) as spool:
            if spool is None:
                continue
            shelf = Shelf(directory=directory, topic=topic)
            steps = _emptied(spool, shelf, topic, sending) if topic is not None else _counted(spool, shelf)
            for shelf in steps:
                yield _marked(shelf, spool)
            # Opening an empty one may have found it damaged.
            if spool.salvaged:
                yield _marked(shelf, spool)


def _counted(spool: LeftBehind, shelf: Shelf) -> Iterator[Shelf]:
    for waiting in _chunks(spool.waiting, _AT_ONCE):
        good = [one.entry for one in waiting if one.intact]
        shelf = _seen(shelf, good, damaged=len(waiting) - len(good))
        yield shelf
    for aside in _chunks(spool.aside, _AT_ONCE):
        damaged = sum(one.reason == DAMAGED for one in aside)
        shelf = replace(shelf, whole=shelf.whole + len(aside) - damaged, damaged=shelf.damaged + damaged)
        yield shelf


def _emptied(spool: SpoolRemains, shelf: Shelf, topic: str, sending: Sending) -> Iterator[Shelf]:
    # What was set aside is the older, and what is set aside now is not tried a second time.
    for aside in _chunks(spool.aside, sending.limit):
        if sending.stop.is_set():
            return
        whole = [one for one in aside if one.reason != DAMAGED]
        taken = _send_aside(spool, topic, whole, sending)
        shelf = replace(
            shelf,
            whole=shelf.whole + taken,
            damaged=shelf.damaged + len(aside) - len(whole),
            refused=shelf.refused + len(whole) - taken,
        )
        yield shelf
        sending.paid(len(aside))
    for waiting in _chunks(spool.waiting, sending.limit):
        if sending.stop.is_set():
            return
        kept = _send_waiting(spool, topic, waiting, sending)
        good = [one.entry for one in waiting if one.position not in kept]
        damaged = sum(reason == DAMAGED for reason in kept.values())
        shelf = replace(_seen(shelf, good, damaged=damaged), refused=shelf.refused + len(kept) - damaged)
        yield shelf
        sending.paid(len(waiting))


def _send_aside(spool: SpoolRemains, topic: str, whole: Sequence[SetAside], sending: Sending) -> int:
    """Send each alone, for what Kafka refuses takes the others of its batch along, and forget it; how many."""
    taken: list[int] = []
    try:
        for one in whole:
            if _refusal(topic, one.entry, sending) is None:
                taken.append(one.position)  # noqa: PERF401 - those before a failure count
    finally:
        if taken:
            spool.forget_aside(taken)
    return len(taken)


def _send_waiting(spool: SpoolRemains, topic: str, waiting: Sequence[Spooled], sending: Sending) -> dict[int, str]:
    """Send, and forget as far as Kafka has them; those that stay, set aside as a sidecar would, with why."""
    aside: dict[int, str] = {}
    through = 0
    try:
        receipts = _receipts(topic, [one.entry for one in waiting if one.intact], sending)
        for one in waiting:
            problem = next(receipts) if one.intact else DAMAGED
            if problem is not None:
                aside[one.position] = problem
            through = one.position
    finally:
        if through:
            spool.forget(through, aside=list(aside.items()), now=datetime.now(UTC))
    return aside


def _receipts(topic: str, entries: Sequence[Entry], sending: Sending) -> Iterator[str | None]:
    """Send together; then, of each in order, why Kafka refuses it, or None once Kafka has it."""
    receipts = [_handed_over(topic, entry, sending.producer) for entry in entries]
    wait(receipts, timeout=DELIVERY_SECONDS)
    failures = [one.exception() if one.done() else StreamUnavailable("no receipt in time") for one in receipts]
    refused = any(isinstance(one, RecordRefused) for one in failures)
    for entry, failure in zip(entries, failures, strict=True):
        if failure is not None and not refused:
            raise failure
        # A batch is refused as a whole, and ends the connection: what is to blame shows alone.
        yield None if failure is None else _refusal(topic, entry, sending)


def _handed_over(topic: str, entry: Entry, producer: Sender) -> "Future[Any]":
    try:
        return producer.send(topic, entry.key, entry.value)
    except RecordRefused as error:
        refused: Future[Any] = Future()
        refused.set_exception(error)
        return refused


def _refusal(topic: str, entry: Entry, sending: Sending) -> str | None:
    try:
        deliver(sending.producer, [(topic, entry.key, entry.value)])
    except RecordRefused as error:
        return str(error)
    return None


def _seen(shelf: Shelf, good: Sequence[Entry], *, damaged: int) -> Shelf:
    named = [entry.key.decode(errors="replace") for entry in good[: _NAMED - len(shelf.keys)]]
    return replace(
        shelf,
        waiting=shelf.waiting + len(good),
        keys=(*shelf.keys, *named),
        damaged=shelf.damaged + damaged,
    )


def _marked(shelf: Shelf, spool: SpoolRemains) -> Shelf:
    return replace(shelf, broken=spool.salvaged is not None, kept_as=spool.salvaged)


def _chunks(read: Callable[..., list[_Record]], limit: int) -> Iterator[list[_Record]]:
    after = 0
    while found := read(after, limit=limit):
        after = found[-1].position
        yield found
