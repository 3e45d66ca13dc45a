"""Where a topic's partitions end, asked again and again over one connection."""

from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from monitor.config import KafkaSettings
from monitor.domain.errors import StreamUnavailable
from monitor.streaming.connection import connect, refusal


class TopicEnds:
    """Asks for the ends of one topic's partitions. It connects when first asked; call from one thread at a time.

    Args:
        settings: where Kafka is.
        topic: its name.
        deadline_seconds: for connecting, and for an answer.
    """

    def __init__(self, settings: KafkaSettings, topic: str, *, deadline_seconds: float = 5.0) -> None:
        self._settings = settings
        self._deadline_seconds = deadline_seconds
        self._topic = topic
        self._consumer: Any = None

    def read(self) -> Mapping[int, int]:
        """The offset of the next record, by partition; nothing for a topic that does not exist.

        The embedded broker may answer with too little: the first offset of the last batch, and one. That is enough to
        know that a partition of which nothing has been read has records, and its readers learn the true end with the
        first of them.

        Raises:
            StreamUnavailable: Kafka cannot be reached, did not let us in, or did not answer in time.
        """
        try:
            return self._read()
        except KafkaError as error:
            about = f"end of {self._topic}: {refusal(self._consumer) or error}"
            self.close()
            raise StreamUnavailable(about) from error

    def close(self) -> None:
        """Leave Kafka; the next question connects again."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _read(self) -> Mapping[int, int]:
        if self._consumer is None:
            self._consumer = connect(
                KafkaConsumer,
                self._settings,
                deadline_seconds=self._deadline_seconds,
                group_id=None,
                allow_auto_create_topics=False,
                enable_auto_commit=False,
            )
        places = [TopicPartition(self._topic, number) for number in self._consumer.partitions_for_topic(self._topic)]
        ends = self._consumer.end_offsets(places, timeout_ms=int(self._deadline_seconds * 1000)) if places else {}
        return {place.partition: end for place, end in ends.items()}
