"""Handing a replay's chunk to Kafka: all of it acknowledged, but for what Kafka will never take."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Protocol

from monitor.domain.errors import RecordRefused, StreamUnavailable
from monitor.streaming.producer import Delivered

_DELIVERY_SECONDS = 120.0


class HeadedSender(Protocol):
    """Writes to topics, with headers: `monitor.streaming.producer.Producer`."""

    def send(
        self, topic: str, key: bytes | None, value: bytes, *, headers: Mapping[str, bytes] | None = None
    ) -> Future[Delivered]:
        """Hand one record over; the future tells when it is durable. Both may fail with StreamUnavailable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """One record on its way.

    Attributes:
        name: what it is, for people.
        letter: topic, partition and offset at which it had died, where it is a dead letter.
    """

    name: str
    topic: str
    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes] | None = None
    letter: tuple[str, int, int] | None = None


Receipts = list[tuple[Outgoing, Delivered]]
Refusals = list[tuple[Outgoing, RecordRefused]]


def deliver(producer: HeadedSender, messages: Sequence[Outgoing]) -> tuple[Receipts, Refusals]:
    """Send all of them, and return once Kafka has each or has refused it for its own sake.

    Raises:
        StreamUnavailable: not all were acknowledged, and sending them again may help.
    """
    delivered, refused = _send(producer, messages)
    alone: Refusals = []
    for message, _ in refused:
        # A refusal can take others in flight with it: only what is refused by itself is to blame.
        more, still = _send(producer, [message])
        delivered += more
        alone += still
    return delivered, alone


def _send(producer: HeadedSender, messages: Sequence[Outgoing]) -> tuple[Receipts, Refusals]:
    receipts: list[tuple[Outgoing, Future[Delivered]]] = []
    delivered: Receipts = []
    refused: Refusals = []
    for message in messages:
        try:
            receipt = producer.send(message.topic, message.key, message.value, headers=message.headers)
        except RecordRefused as error:
            refused.append((message, error))
        else:
            receipts.append((message, receipt))
    _, late = wait([receipt for _, receipt in receipts], timeout=_DELIVERY_SECONDS)
    if late:
        raise StreamUnavailable(f"{len(late)} of {len(receipts)} records had no receipt in {_DELIVERY_SECONDS} s")
    for message, receipt in receipts:
        try:
            delivered.append((message, receipt.result()))
        except RecordRefused as error:
            refused.append((message, error))
    return delivered, refused
