"""From a record that cannot be taken in to its dead letter."""

from datetime import datetime

from monitor.domain.dead_letter import DeadLetter, DeadLetterReason
from monitor.domain.trace import Origin
from monitor.streaming.consume import Record
from monitor.wire import MAX_DEAD_LETTER_BYTES

_MAX_DETAIL_CHARACTERS = 2000


def place(record: Record) -> Origin:
    """Where the record itself lay."""
    return Origin(topic=record.topic, partition=record.partition, offset=record.offset)


def dead_letter(
    record: Record, origin: Origin, reason: DeadLetterReason, detail: str, *, field: str | None = None, now: datetime
) -> DeadLetter:
    """The record's bytes, under `origin`, with what is wrong with them."""
    return DeadLetter(
        origin=origin,
        reason=reason,
        detail=detail[:_MAX_DETAIL_CHARACTERS],
        field=field,
        raw=record.value[:MAX_DEAD_LETTER_BYTES],
        raw_bytes=len(record.value),
        dead_at=now,
    )
