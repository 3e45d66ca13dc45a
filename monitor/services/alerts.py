"""The alert worker's work: deliveries from the outbox to Kafka, webhooks and services, each in its own time.

Deliveries are independent: each has a deadline, and a receiver that hangs holds one place of many. What the
outbox says is the truth; a worker that dies leaves a lease that ends, and the delivery is made again.
"""

import asyncio
import json
import logging
import math
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import TypeVar

from monitor.alerts.backoff import delay_seconds
from monitor.alerts.message import message_of
from monitor.alerts.sealing import SealBroken, Sealer, destination_of
from monitor.alerts.services import AT_A_TIME, Services
from monitor.alerts.targets import TargetRefused
from monitor.alerts.webhook import NotDelivered, Webhook
from monitor.config import AlertSettings
from monitor.domain.errors import GroundwatchError, LedgerUnavailable, RecordRefused
from monitor.services.stopping import rest
from monitor.storage.engine import LedgerEngine
from monitor.storage.outbox import KAFKA, Delivery, claim_deliveries, mark_delivered, mark_failed
from monitor.storage.subscriptions import Channel, find_subscriptions, reseal
from monitor.streaming.producer import Producer
from monitor.telemetry.instruments import Instruments

logger = logging.getLogger(__name__)

CONCURRENCY = 32
"""Deliveries under way at a time."""

_LEASE_MARGIN_SECONDS = 60.0
_NEVER = (TargetRefused, RecordRefused)
_Result = TypeVar("_Result")


class AlertDelivery:
    """Empties the outbox. Several may work on one ledger.

    Args:
        engine: of the ledger, with at least two connections.
        producer: for `topic`; closed by whoever made it.
        webhook: posts to webhooks.
        services: sends to all others.
        topic: where alerts go in Kafka.
        settings: deadline, attempts, pace.
        clock: the time now, aware: it goes into signatures.
    """

    def __init__(
        self,
        *,
        engine: LedgerEngine,
        producer: Producer,
        webhook: Webhook,
        services: Services,
        topic: str,
        settings: AlertSettings,
        instruments: Instruments,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._producer = producer
        self._webhook = webhook
        self._services = services
        self._topic = topic
        self._settings = settings
        self._sealer = Sealer(settings.encryption_keys)
        self._instruments = instruments
        self._clock = clock
        # Threads of their own: name resolution uses the loop's, and a name server that hangs must not stop the rest.
        self._ledger_threads = ThreadPoolExecutor(2, thread_name_prefix="ledger")
        self._kafka_thread = ThreadPoolExecutor(1, thread_name_prefix="kafka")

    def seal_all(self) -> None:
        """Seal what an earlier release kept in plain text, and everything anew with the first key.

        Raises:
            LedgerUnavailable: some may be sealed.
        """
        if not self._sealer.has_keys:
            return
        for subscription in find_subscriptions(self._engine):
            try:
                destination = destination_of(subscription, self._sealer)
            except SealBroken as error:
                extra = {"subscription": subscription.subscription_id, "error": str(error)}
                logger.warning("a subscription cannot be opened, its deliveries will fail", extra=extra)
                continue
            sealed = self._sealer.seal(destination)
            reseal(self._engine, subscription, shown=destination.shown, sealed=sealed)

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until told to stop, then finish what is under way: each delivery has its deadline."""
        try:
            await self._in_ledger(self.seal_all)
        except LedgerUnavailable as error:
            logger.warning("the ledger is away, nothing was sealed anew", extra={"error": str(error)})
        under_way: set[asyncio.Task[None]] = set()
        while not stop.is_set():
            try:
                for delivery in await self._claim(CONCURRENCY - len(under_way)):
                    task = asyncio.create_task(self._deliver(delivery))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
            except LedgerUnavailable as error:
                logger.warning("the ledger is away, alerts wait in it", extra={"error": str(error)})
            await rest(stop, self._settings.poll_seconds)
        if under_way:
            await asyncio.wait(under_way)
        self._ledger_threads.shutdown()
        self._kafka_thread.shutdown(wait=False, cancel_futures=True)

    async def _claim(self, places: int) -> list[Delivery]:
        if places <= 0:
            return []
        # Messages to services wait for each other: the last of a whole claim may be sent several deadlines later.
        lease = math.ceil(CONCURRENCY / AT_A_TIME) * self._settings.deadline_seconds + _LEASE_MARGIN_SECONDS
        return await self._in_ledger(lambda: claim_deliveries(self._engine, limit=places, lease_seconds=lease))

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            if delivery.channel == KAFKA:
                await self._to_kafka(delivery)
            else:
                await self._to_subscriber(delivery)
        except GroundwatchError as error:
            await self._note(partial(self._failed, delivery, error))
        except Exception as error:
            # No one awaits this task's outcome: what is not foreseen is kept as a failure, and seen in the log.
            logger.exception("a delivery failed unforeseen", extra={"delivery": delivery.id})
            await self._note(partial(self._failed, delivery, error))
        else:
            self._instruments.delivery(delivery.channel, "delivered")
            await self._note(partial(mark_delivered, self._engine, delivery))

    async def _to_kafka(self, delivery: Delivery) -> None:
        key = "/".join(str(delivery.payload["segment"][part]) for part in ("tenant", "service", "environment"))
        value = json.dumps(delivery.payload, ensure_ascii=False, separators=(",", ":")).encode()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                # Sending blocks while it connects; the receipt comes later.
                sent = await loop.run_in_executor(
                    self._kafka_thread, self._producer.send, self._topic, key.encode(), value
                )
                await asyncio.wrap_future(sent)
        except TimeoutError:
            raise NotDelivered(f"no receipt from Kafka in {self._settings.deadline_seconds:g} s") from None

    async def _to_subscriber(self, delivery: Delivery) -> None:
        assert delivery.subscription is not None
        destination = destination_of(delivery.subscription, self._sealer)
        if delivery.subscription.channel is Channel.SERVICE:
            await self._services.send(destination.url, message_of(delivery.payload))
            return
        await self._webhook.post(
            destination.url,
            delivery.payload,
            secret=destination.secret,
            delivery_id=str(delivery.id),
            now=self._clock(),
        )

    def _failed(self, delivery: Delivery, error: Exception) -> bool:
        shown = str(error) if isinstance(error, GroundwatchError) else f"{type(error).__name__}: {error}"
        hopeless = isinstance(error, _NEVER) or delivery.attempts >= self._settings.max_attempts
        retry = None if hopeless else delay_seconds(delivery.attempts, jitter=random.random())  # noqa: S311 - no secret
        self._instruments.delivery(delivery.channel, "dead" if hopeless else "failed")
        logger.warning(
            "alert given up" if hopeless else "alert not delivered, will be tried again",
            extra={
                "delivery": delivery.id,
                "channel": delivery.channel,
                "attempt": delivery.attempts,
                "error": shown,
            },
        )
        return mark_failed(self._engine, delivery, error=shown, retry_seconds=retry)

    async def _note(self, work: Callable[[], bool]) -> None:
        try:
            await self._in_ledger(work)
        except LedgerUnavailable as error:
            # The lease ends and the delivery is made again: at least once, by the same delivery id.
            logger.warning("a delivery's outcome could not be kept", extra={"error": str(error)})
        except Exception:
            logger.exception("a delivery's outcome could not be kept")

    async def _in_ledger(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._ledger_threads, work)
