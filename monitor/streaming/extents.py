"""Which offsets a topic's partitions have, asked again and again over one connection."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import for_code

from monitor.config import KafkaSettings
from monitor.domain.errors import StreamUnavailable
from monitor.domain.trace import topic_log
from monitor.streaming.connection import connect, refusal
from monitor.streaming.topics import life_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Extents:
    """What lies in a topic.

    Attributes:
        log: the topic, in this life of it: see `Origin.log`.
        offsets: of the records that there are, by partition; None where no leader is there to say.
    """

    log: str
    offsets: Mapping[int, range | None]


class TopicExtents:
    """Asks for one topic's extents. It connects when first asked; call from one thread at a time.

    Attributes:
        topic: its name.

    Args:
        settings: where Kafka is.
        topic: likewise.
        deadline_seconds: for each of connecting, the partitions, their beginnings and their ends.
    """

    def __init__(self, settings: KafkaSettings, topic: str, *, deadline_seconds: float = 5.0) -> None:
        self._settings = settings
        self.topic = topic
        self._deadline_seconds = deadline_seconds
        self._admin: Any = None

    def read(self) -> Extents:
        """As Kafka says now.

        The embedded broker may say too little: a partition's last batch counts as one record. That is enough to know
        of records in a partition that nothing has come from, and whoever reads the first of them learns the true end.

        Raises:
            StreamUnavailable: Kafka cannot be reached, did not let us in, does not know the topic, or did not answer.
        """
        if self._admin is not None:
            # A connection from before an outage may take half a minute to try again; a new one does at once.
            with suppress(StreamUnavailable):
                return self._read()
        return self._read()

    def close(self) -> None:
        """Leave Kafka; the next question connects again."""
        admin, self._admin = self._admin, None
        if admin is not None:
            try:
                admin.close()
            except Exception as error:  # noqa: BLE001 - what is left of a connection that failed is worth no verdict
                logger.debug("a connection to Kafka was not closed in order", extra={"error": str(error)})

    def _read(self) -> Extents:
        try:
            if self._admin is None:
                milliseconds = int(self._deadline_seconds * 1000)
                self._admin = connect(
                    KafkaAdminClient,
                    self._settings,
                    deadline_seconds=self._deadline_seconds,
                    request_timeout_ms=milliseconds,
                )
            return self._ask(self._admin)
        # Besides KafkaError: what a client says whose connection is gone, and of files for TLS that are being changed.
        except Exception as error:
            told = f"offsets of {self.topic}: {refusal(self._admin) or error or type(error).__name__}"
            self.close()
            raise StreamUnavailable(told) from error

    def _ask(self, admin: KafkaAdminClient) -> Extents:
        (topic,) = admin.describe_topics([self.topic])
        if topic["error_code"]:
            raise for_code(topic["error_code"])(self.topic)
        led = [
            TopicPartition(self.topic, each["partition_index"])
            for each in topic["partitions"]
            if each["leader_id"] >= 0
        ]
        unknown = dict.fromkeys(int(each["partition_index"]) for each in topic["partitions"])
        begins, ends = (self._offsets(admin, led, spec) for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST))
        return Extents(
            log=topic_log(self.topic, life_of(topic)),
            offsets={**unknown, **{place.partition: range(begins[place], ends[place]) for place in led}},
        )

    def _offsets(
        self, admin: KafkaAdminClient, places: list[TopicPartition], spec: OffsetSpec
    ) -> dict[TopicPartition, int]:
        if not places:
            return {}
        found = admin.list_partition_offsets(dict.fromkeys(places, spec), timeout_ms=int(self._deadline_seconds * 1000))
        return {place: each.offset for place, each in found.items()}
