"""What services write to Kafka with."""

from concurrent.futures import Future
from typing import Protocol

from monitor.streaming.producer import Delivered


class Sender(Protocol):
    """Writes to topics: `monitor.streaming.producer.Producer`."""

    def send(self, topic: str, key: bytes | None, value: bytes) -> "Future[Delivered]":
        """Hand one record over; the future tells when it is durable. Both may fail with StreamUnavailable."""
