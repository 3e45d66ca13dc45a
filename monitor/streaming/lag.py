"""How far behind a consumer group is.

End offsets come from the high watermark of a fetch. Asking for them directly (ListOffsets, "latest") would be
cheaper, but the embedded broker answers that with its last batch's first offset + 1: one too many bytes a
partition is the price of a number that is right on both brokers.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import RetriableError

from monitor.config import KafkaSettings
from monitor.domain.errors import StreamUnavailable
from monitor.streaming.connection import connected

_POLL_MS = 200
_FETCH_BYTES = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionLag:
    """One partition as a group sees it.

    Attributes:
        end: offset of the next record to be written.
        committed: offset of the next record that the group will read; None before its first commit.
    """

    topic: str
    partition: int
    end: int
    committed: int | None

    @property
    def records(self) -> int:
        """Records that the group has still to work through."""
        return max(0, self.end - (self.committed or 0))


def group_lag(
    settings: KafkaSettings, group: str, topics: Sequence[str], *, timeout_seconds: float = 15.0
) -> list[PartitionLag]:
    """One entry a partition, by topic and partition; topics that do not exist have none.

    Where old records have expired, a group without a commit is shown as behind by all offsets ever given.

    Raises:
        StreamUnavailable: Kafka cannot be reached, or did not answer in time.
    """
    ends = end_offsets(settings, topics, timeout_seconds=timeout_seconds)
    about = f"offsets of group {group}"
    with connected(KafkaAdminClient, settings, about, deadline_seconds=timeout_seconds) as admin:
        committed = _committed(admin, group, list(ends), deadline=time.monotonic() + timeout_seconds)
    return [
        PartitionLag(topic=topic, partition=partition, end=end, committed=committed.get((topic, partition)))
        for (topic, partition), end in sorted(ends.items())
    ]


def committed_offsets(
    settings: KafkaSettings, groups: Mapping[str, Sequence[tuple[str, int]]], *, timeout_seconds: float = 15.0
) -> Mapping[str, Mapping[tuple[str, int], int]]:
    """What each group will read next of its `(topic, partition)` places; nothing before its first commit of one.

    Raises:
        StreamUnavailable: Kafka cannot be reached, or did not answer in time.
    """
    about = f"offsets of groups {', '.join(groups)}"
    with connected(KafkaAdminClient, settings, about, deadline_seconds=timeout_seconds) as admin:
        deadline = time.monotonic() + timeout_seconds
        return {group: _committed(admin, group, places, deadline=deadline) for group, places in groups.items()}


def _committed(
    admin: KafkaAdminClient, group: str, places: Sequence[tuple[str, int]], *, deadline: float
) -> dict[tuple[str, int], int]:
    while places:
        try:
            answer = admin.list_group_offsets({group: [TopicPartition(*place) for place in places]})[group]
        except RetriableError:
            # A new cluster makes the topic that holds offsets when it is first asked.
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_MS / 1000)
        else:
            # -1 is the protocol's word for "never committed".
            return {(tp.topic, tp.partition): found.offset for tp, found in answer.items() if found.offset >= 0}
    return {}


def end_offsets(
    settings: KafkaSettings, topics: Sequence[str], *, timeout_seconds: float = 15.0
) -> Mapping[tuple[str, int], int]:
    """The next offset of each `(topic, partition)`; nothing for topics that do not exist.

    Raises:
        StreamUnavailable: Kafka cannot be reached, or did not answer in time.
    """
    with connected(
        KafkaConsumer,
        settings,
        f"end of {', '.join(topics)}",
        deadline_seconds=timeout_seconds,
        group_id=None,
        allow_auto_create_topics=False,
        auto_offset_reset="latest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=_FETCH_BYTES,
    ) as consumer:
        return _high_watermarks(consumer, topics, deadline=time.monotonic() + timeout_seconds)


def _high_watermarks(
    consumer: KafkaConsumer, topics: Sequence[str], *, deadline: float
) -> Mapping[tuple[str, int], int]:
    places = [
        TopicPartition(topic, number) for topic in topics for number in consumer.partitions_for_topic(topic) or ()
    ]
    consumer.assign(places)
    for place, end in consumer.end_offsets(places).items() if places else ():
        # Just before the end, as far as the broker knows it: the answer then carries one batch at most.
        consumer.seek(place, max(0, end - 1))
    while any(consumer.highwater(place) is None for place in places):
        if time.monotonic() > deadline:
            raise StreamUnavailable(f"no answer about the end of {', '.join(topics)} in time")
        consumer.poll(timeout_ms=_POLL_MS)
    return {(place.topic, place.partition): consumer.highwater(place) for place in places}
