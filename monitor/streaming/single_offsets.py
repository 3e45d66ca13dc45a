"""Reading single records again by their offsets, and nothing around them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from monitor.config import KafkaSettings
from monitor.domain.errors import StreamUnavailable
from monitor.streaming.connection import connected
from monitor.streaming.topics import RECORD_OVERHEAD_BYTES
from monitor.wire import MAX_MESSAGE_BYTES

_POLL_MS = 500
_MOST_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRecord:
    """A record as it lies; `value` is empty for one without."""

    offset: int
    key: bytes | None
    value: bytes


def first_offsets(
    settings: KafkaSettings, topic: str, partitions: Sequence[int], *, timeout_seconds: float = 15.0
) -> dict[int, int]:
    """The first offset that each partition still has: what lay before has expired.

    Raises:
        StreamUnavailable: Kafka cannot be reached, or did not answer in time.
    """
    places = [TopicPartition(topic, partition) for partition in partitions]
    with _consumer(settings, f"begin of {topic}", timeout_seconds) as consumer:
        found = consumer.beginning_offsets(places) if places else {}
    return {place.partition: offset for place, offset in found.items()}


def read_offsets(
    settings: KafkaSettings, topic: str, partition: int, wanted: Sequence[range], *, timeout_seconds: float = 30.0
) -> Iterator[StoredRecord]:
    """The records at these offsets, in order; those that are not there any more, or never were, are left out.

    Args:
        settings: where Kafka is.
        topic: of the records.
        partition: likewise.
        wanted: ranges of offsets, in order, none empty.
        timeout_seconds: how long Kafka may be silent.

    Raises:
        StreamUnavailable: Kafka cannot be reached, or was silent.
    """
    place = TopicPartition(topic, partition)
    with _consumer(settings, f"{topic}/{partition}", timeout_seconds) as consumer:
        consumer.assign([place])
        for offsets in wanted:
            yield from _read_range(consumer, place, offsets, timeout_seconds)


def _read_range(consumer: Any, place: TopicPartition, offsets: range, timeout_seconds: float) -> Iterator[StoredRecord]:
    consumer.seek(place, offsets.start)
    deadline = time.monotonic() + timeout_seconds
    # The position moves past what expired, and past offsets that hold no record.
    while (at := consumer.position(place)) < offsets.stop:
        found = consumer.poll(timeout_ms=_POLL_MS, max_records=_MOST_AT_ONCE).get(place, ())
        for record in found:
            if record.offset in offsets:
                yield StoredRecord(offset=record.offset, key=record.key, value=record.value or b"")
        if consumer.position(place) > at:
            deadline = time.monotonic() + timeout_seconds
        elif consumer.highwater(place) is not None and consumer.position(place) >= consumer.highwater(place):
            return
        elif time.monotonic() > deadline:
            raise StreamUnavailable(f"{place.topic}/{place.partition}: nothing from offset {at} in {timeout_seconds} s")


def _consumer(settings: KafkaSettings, about: str, timeout_seconds: float) -> Any:
    return connected(
        KafkaConsumer,
        settings,
        about,
        deadline_seconds=timeout_seconds,
        group_id=None,
        allow_auto_create_topics=False,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=MAX_MESSAGE_BYTES + RECORD_OVERHEAD_BYTES,
    )
