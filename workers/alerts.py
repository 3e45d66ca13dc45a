"""The alert worker: delivers what waits in the outbox, tends open alerts, and holds readers to their time."""

import asyncio
import signal
from datetime import UTC, datetime

from monitor.alerts.rules import life_cycle
from monitor.alerts.services import Services
from monitor.alerts.webhook import MAX_ANSWER_BYTES, Webhook
from monitor.config import Settings
from monitor.outbound import AsyncHttpClient
from monitor.services.alerts import AlertDelivery
from monitor.services.reader_watch import ReaderWatch
from monitor.services.tending import AlertTending
from monitor.storage.engine import create_ledger_engine
from monitor.streaming.producer import Producer
from monitor.telemetry.setup import setup_telemetry

_CLOSE_SECONDS = 2.0
_CONNECTIONS = 4  # two for deliveries, one for tending, one for the watch over readers


def run(settings: Settings) -> int:
    """Deliver until SIGTERM or SIGINT; returns the exit code."""
    asyncio.run(_run(settings))
    return 0


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    telemetry = setup_telemetry(settings.telemetry, "groundwatch-alerts")
    engine = create_ledger_engine(settings.postgres, application_name="groundwatch-alerts", pool_size=_CONNECTIONS)
    alerts = settings.alerts
    producer = Producer(settings.kafka, delivery_seconds=alerts.deadline_seconds)
    try:
        async with AsyncHttpClient(
            deadline_seconds=alerts.deadline_seconds, max_answer_bytes=MAX_ANSWER_BYTES, reuse_connections=False
        ) as client:
            webhook = Webhook(
                client, allow_private=alerts.allow_private_targets, deadline_seconds=alerts.deadline_seconds
            )
            delivery = AlertDelivery(
                engine=engine,
                producer=producer,
                webhook=webhook,
                services=Services(allow_private=alerts.allow_private_targets, deadline_seconds=alerts.deadline_seconds),
                topic=settings.kafka.alerts_topic,
                settings=alerts,
                instruments=telemetry.instruments,
                clock=lambda: datetime.now(UTC),
            )
            rules = life_cycle(settings.drift, alerts)
            tending = AlertTending(engine, rules, telemetry, pace=alerts.tend_seconds)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(delivery.run(stop))
                tasks.create_task(tending.run(stop))
                tasks.create_task(ReaderWatch(engine, pace=alerts.tend_seconds).run(stop))
    finally:
        producer.close(timeout=_CLOSE_SECONDS)
        engine.dispose()
        telemetry.shutdown()
