"""What a sidecar set aside on its disk, sent after all."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from monitor.config import KafkaSettings
from monitor.domain.errors import RecordRefused
from monitor.ingest.forward import DAMAGED
from monitor.ingest.spool_aside import SetAside, aside_shelf
from monitor.services.reconcile import Sender, deliver

_AT_ONCE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """What was set aside in one spool.

    Attributes:
        directory: the spool's.
        whole: records as they were accepted; they can be sent, or were.
        damaged: records that the disk has changed: they stay.
        refused: records that Kafka refuses still: they stay.
        topic: where they go; None for OTLP exports, which only a sidecar can read: they stay.
    """

    directory: Path
    topic: str | None
    whole: int
    damaged: int
    refused: int = 0


def spools(root: Path, kafka: KafkaSettings) -> dict[Path, str | None]:
    """A sidecar's spools below its `sidecar.spool_directory`, with the topic of each."""
    return {
        root: kafka.traces_topic,
        root / "assembled": kafka.traces_topic,
        root / "feedback": kafka.feedback_topic,
        root / "spans": None,
    }


def empty_shelves(root: Path, kafka: KafkaSettings, *, producer: Sender | None) -> Iterator[Shelf]:
    """Send what was set aside, and forget it once Kafka has it; with no producer only count. Empty ones are left out.

    Raises:
        SpoolUnavailable: its sidecar is running, or the spool cannot be read.
        StreamUnavailable: what was not acknowledged is still there.
    """
    for directory, topic in spools(root, kafka).items():
        with aside_shelf(directory) as shelf:
            if shelf is None:
                continue
            whole = damaged = refused = after = 0
            while found := shelf.read(after, limit=_AT_ONCE):
                after = found[-1].position
                good = [one for one in found if one.reason != DAMAGED]
                damaged += len(found) - len(good)
                if producer is not None and topic is not None:
                    taken = [one.position for one in good if _taken(producer, topic, one)]
                    shelf.forget(taken)
                    refused += len(good) - len(taken)
                    whole += len(taken)
                else:
                    whole += len(good)
            if whole or damaged or refused:
                yield Shelf(directory=directory, topic=topic, whole=whole, damaged=damaged, refused=refused)


def _taken(producer: Sender, topic: str, one: SetAside) -> bool:
    # Alone: what Kafka refuses takes the others of its batch along.
    try:
        deliver(producer, [(topic, one.key, one.value)])
    except RecordRefused:
        return False
    return True
