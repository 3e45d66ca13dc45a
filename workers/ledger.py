"""The ledger worker: judgements, dead letters and feedback from their topics into Postgres, each exactly once."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from functools import partial

from monitor.config import Settings
from monitor.services.collecting import collect_seldom
from monitor.services.feedback import FeedbackService
from monitor.services.ledger import LedgerService, Recorded
from monitor.services.retention import Retaining, agreed_time
from monitor.services.soundings import Soundings
from monitor.storage.engine import create_ledger_engine
from monitor.storage.feedback import FeedbackBook
from monitor.storage.ledger import Ledger
from monitor.streaming.consume import Record, run_batches
from monitor.streaming.extents import TopicExtents
from monitor.streaming.topics import await_topics, ledger_group
from monitor.telemetry.setup import Telemetry, setup_telemetry


def run(settings: Settings) -> int:
    """Write until SIGTERM; returns the exit code. While Postgres is away it waits, with nothing committed."""
    kafka = settings.kafka
    await_topics(kafka)
    telemetry = setup_telemetry(settings.telemetry, "groundwatch-ledger")
    engine = create_ledger_engine(settings.postgres, application_name="groundwatch-ledger", pool_size=3)
    clock = partial(datetime.now, UTC)
    collect_seldom()
    retaining = Retaining(engine, settings.retention, clock=partial(agreed_time, engine, clock=clock))
    service = LedgerService(
        ledger=Ledger(engine, dimensions=settings.drift.dimensions),
        dead_letters_topic=kafka.dead_letters_topic,
        feedback=FeedbackService(book=FeedbackBook(engine), topic=kafka.feedback_topic, clock=clock),
        clock=clock,
        observe=_Observer(telemetry),
    )

    traces = TopicExtents(kafka, kafka.traces_topic)
    soundings = Soundings(engine, traces)

    def sound_and_work(records: list[Record]) -> None:
        soundings.take()
        service.work(records)

    async def work(records: list[Record]) -> None:
        # In a thread: heartbeats and fetches go on while Postgres works, or is waited for.
        await asyncio.to_thread(sound_and_work, records)

    retaining.start()
    try:
        run_batches(
            kafka,
            group=ledger_group(kafka),
            topics=[kafka.judgements_topic, kafka.dead_letters_topic, kafka.feedback_topic],
            handler=work,
            batch_size=settings.ledger.batch_size,
            batch_seconds=settings.ledger.batch_seconds,
        )
    finally:
        retaining.stop()
        traces.close()
        engine.dispose()
        telemetry.shutdown()
    return 0


class _Observer:
    """Tells telemetry what became of each chunk of a batch, once it is durable in Postgres."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._instruments = telemetry.instruments
        self._behind: dict[str, dict[int, int]] = defaultdict(dict)

    def __call__(self, recorded: Recorded) -> None:
        for letter in recorded.refused:
            self._instruments.dead_letter(letter.reason)
        for report in recorded.reports:
            if report.escalated:
                self._instruments.escalated("queued", report.escalated)
        if recorded.feedback.recorded:
            self._instruments.feedback("recorded", recorded.feedback.recorded)
        if recorded.feedback.repeated:
            self._instruments.feedback("repeated", recorded.feedback.repeated)
        for (topic, partition), behind in recorded.behind.items():
            self._behind[topic][partition] = behind
        for topic, partitions in self._behind.items():
            self._instruments.queue_lag(topic, sum(partitions.values()))
