"""Topics: made once, with room for our largest message."""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError, for_code

from monitor.config import KafkaSettings
from monitor.domain.errors import StreamUnavailable
from monitor.streaming.connection import connected
from monitor.wire import MAX_MESSAGE_BYTES

logger = logging.getLogger(__name__)

RECORD_OVERHEAD_BYTES = 64 * 1024
"""Room for key, headers and batch framing around the largest value."""

_TIMEOUT_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0


def topic_names(settings: KafkaSettings) -> tuple[str, ...]:
    """Every topic that groundwatch reads or writes."""
    return (
        settings.traces_topic,
        settings.judgements_topic,
        settings.dead_letters_topic,
        settings.replays_topic,
        settings.feedback_topic,
        settings.alerts_topic,
    )


def judge_group(settings: KafkaSettings) -> str:
    """The consumer group of the judge workers; of one name with its topic, so that two pipelines can share Kafka."""
    return f"groundwatch-judge.{settings.traces_topic}"


def replays_group(settings: KafkaSettings, judge_version: str) -> str:
    """The consumer group of the workers that judge replays by one version: none waits behind another's."""
    return f"groundwatch-judge.{settings.replays_topic}.{judge_version.replace('@', '-')}"


def ledger_group(settings: KafkaSettings) -> str:
    """The consumer group of the ledger workers."""
    return f"groundwatch-ledger.{settings.judgements_topic}"


def await_topics(settings: KafkaSettings) -> None:
    """As `ensure_topics`, but waits for Kafka for as long as it takes: processes may start in any order."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return ensure_topics(settings)
        except StreamUnavailable as error:
            logger.warning("waiting for Kafka", extra={"error": str(error), "pause": pause})
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def ensure_topics(settings: KafkaSettings, names: Iterable[str] | None = None) -> None:
    """Create those topics that do not exist; one that does is left as it is.

    Args:
        settings: where Kafka is; how many partitions and replicas a new topic gets.
        names: the topics; all of `topic_names` when None.

    Raises:
        StreamUnavailable: Kafka cannot be reached, or refused.
    """
    wanted = tuple(names) if names is not None else topic_names(settings)
    about = f"topics {', '.join(wanted)}"
    with connected(KafkaAdminClient, settings, about, deadline_seconds=_TIMEOUT_SECONDS) as admin:
        missing = [name for name in wanted if name not in admin.list_topics()]
        if missing:
            _create(admin, settings, missing)


def topic_id(settings: KafkaSettings, name: str) -> str | None:
    """The id that Kafka gave this life of a topic (KIP-516); None from brokers that give none.

    A worker asks once: start it again after a topic was deleted and made anew.

    Raises:
        StreamUnavailable: Kafka cannot be reached, or does not know the topic.
    """
    with connected(KafkaAdminClient, settings, f"topic {name}", deadline_seconds=_TIMEOUT_SECONDS) as admin:
        (topic,) = admin.describe_topics([name])
    if topic["error_code"]:
        raise StreamUnavailable(f"topic {name}: {for_code(topic['error_code']).__name__}")
    return life_of(topic)


def life_of(described: Mapping[str, Any]) -> str | None:
    """The id of a topic that `describe_topics` has described, as `topic_id` gives it."""
    given = str(described.get("topic_id") or "")
    # All zeros, or nothing at all, is the protocol's "no id".
    return given if given.strip("0-") else None


def _create(admin: KafkaAdminClient, settings: KafkaSettings, names: list[str]) -> None:
    options = {
        "num_partitions": settings.partitions,
        "replication_factor": settings.replication_factor,
        "configs": {"max.message.bytes": str(MAX_MESSAGE_BYTES + RECORD_OVERHEAD_BYTES)},
    }
    # Two workers may start at once: another's having made the topic first is success.
    answer = admin.create_topics(
        dict.fromkeys(names, options), timeout_ms=int(_TIMEOUT_SECONDS * 1000), raise_errors=False
    )
    for topic in answer["topics"]:
        kind = for_code(topic["error_code"])
        if topic["error_code"] and kind is not TopicAlreadyExistsError:
            raise kind(f"{topic['name']}: {topic.get('error_message')}")
    logger.info("created topics", extra={"topics": names})
