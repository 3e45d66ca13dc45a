"""All that lies on a topic."""

import time
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from monitor.config import KafkaSettings
from monitor.streaming.lag import end_offsets

DEADLINE_SECONDS = 30.0


def read_all(settings: KafkaSettings, topic: str) -> list[bytes]:
    """The values of all records up to the topic's end as it is now, partition by partition."""
    return [record.value for record in read_records(settings, topic)]


def read_records(settings: KafkaSettings, topic: str) -> list[Any]:
    """The same with their keys and headers, as kafka-python gives them."""
    ends = {TopicPartition(*place): end for place, end in end_offsets(settings, [topic]).items()}
    consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap_servers, max_partition_fetch_bytes=8_000_000)
    found: list[Any] = []
    try:
        consumer.assign(list(ends))
        consumer.seek_to_beginning()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while any(consumer.position(place) < end for place, end in ends.items()):
            assert time.monotonic() < deadline, f"{len(found)} records of {topic} read in {DEADLINE_SECONDS} s"
            for records in consumer.poll(timeout_ms=200).values():
                found += records
    finally:
        consumer.close()
    return found
