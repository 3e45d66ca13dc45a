"""The judge worker: rag.traces.v1, or rag.replays.v1, to rag.judgements.v1 and rag.dead-letters.v1.

It needs Kafka, and no database.
"""

import asyncio
import logging

from monitor.config import Settings
from monitor.inference.loading import load_cascade, now
from monitor.services.dead_letters import DeadLetterCap
from monitor.services.judge import JudgeService, Worked
from monitor.streaming.consume import Record, run_batches
from monitor.streaming.producer import Producer
from monitor.streaming.topics import await_topics, judge_group, replays_group, topic_id
from monitor.telemetry.setup import Telemetry, setup_telemetry

logger = logging.getLogger(__name__)


def run(settings: Settings, *, replays: bool = False) -> int:
    """Judge until SIGTERM; returns the exit code.

    Args:
        settings: which judges, and where Kafka is.
        replays: judge what is sent to be judged anew, in place of live traffic.

    Raises:
        JudgeUnavailable: a judge's model cannot be loaded.
        DeadLetterLimit: too much of the topic cannot be read.
    """
    cascade = load_cascade(settings)
    logger.info("judging", extra={"version": cascade.version, "judges": [judge.version for judge in cascade.judges]})
    kafka = settings.kafka
    await_topics(kafka)
    topic = kafka.replays_topic if replays else kafka.traces_topic
    telemetry = setup_telemetry(settings.telemetry, "groundwatch-judge")
    producer = Producer(kafka)
    service = JudgeService(
        cascade=cascade,
        producer=producer,
        topics=kafka,
        topic_id=topic_id(kafka, topic),
        cap=DeadLetterCap(window=settings.judge.dead_letter_window, share=settings.judge.dead_letter_share_limit),
        clock=now,
        observe=_Observer(telemetry, topic, replays=replays),
        version=cascade.version if replays else None,
    )

    async def work(records: list[Record]) -> None:
        # In a thread: heartbeats and fetches go on while the models run.
        await asyncio.to_thread(service.work, records)

    try:
        run_batches(
            kafka,
            group=replays_group(kafka, cascade.version) if replays else judge_group(kafka),
            topics=[topic],
            handler=work,
            batch_size=settings.judge.batch_size,
            batch_seconds=settings.judge.batch_seconds,
        )
    finally:
        producer.close()
        telemetry.shutdown()
    return 0


class _Observer:
    """Tells telemetry what became of each chunk of a batch, once it is durable in Kafka."""

    def __init__(self, telemetry: Telemetry, topic: str, *, replays: bool) -> None:
        self._telemetry = telemetry
        self._topic = topic
        self._replays = replays
        self._behind: dict[int, int] = {}

    def __call__(self, worked: Worked) -> None:
        # Replays are old: counted and told once more, they would pass for today's traffic.
        for assessment in () if self._replays else worked.assessments:
            self._telemetry.instruments.assessed(assessment)
            self._telemetry.evaluations.emit(assessment)
        for letter in worked.dead_letters:
            self._telemetry.instruments.dead_letter(letter.reason)
        self._behind.update(worked.behind)
        self._telemetry.instruments.queue_lag(self._topic, sum(self._behind.values()))
