"""The sidecar, composed: HTTP in front, the spool in the middle, Kafka behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.applications import Starlette

from monitor.config import Settings
from monitor.domain.errors import SpoolUnavailable
from monitor.ingest.app import Api, Limits, create_app
from monitor.ingest.assembler import Assembler
from monitor.ingest.counters import Tally
from monitor.ingest.forward import Forwarder
from monitor.ingest.otlp_api import OtlpApi
from monitor.ingest.spool import Spool
from monitor.services.intake import IntakeTelemetry
from monitor.spans.collecting import Patience
from monitor.streaming.producer import Producer
from monitor.streaming.topics import ensure_topics
from monitor.telemetry.setup import setup_telemetry

DRAIN_SECONDS = 5.0
"""How long a sidecar that is told to stop goes on sending what waits. The rest is sent by the next one."""

_CLOSE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """A running sidecar's parts."""

    app: Starlette
    spool: Spool
    exports: Spool
    assembler: Assembler
    forwarder: Forwarder
    tally: Tally


@contextmanager
def create_sidecar(settings: Settings) -> Iterator[Sidecar]:
    """A sidecar that sends for as long as the context lasts; on leaving it drains, then releases the spool.

    Kafka need not be there: it is looked for in the background.

    Raises:
        SpoolUnavailable: the spool's directory is in use or cannot be written.
    """
    kafka = settings.kafka
    spool = Spool(
        settings.sidecar.spool_directory, max_bytes=settings.sidecar.spool_max_bytes, sync=settings.sidecar.spool_sync
    )
    try:
        exports = Spool(
            settings.sidecar.spool_directory / "spans",
            max_bytes=settings.sidecar.spool_max_bytes,
            sync=settings.sidecar.spool_sync,
        )
    except SpoolUnavailable:
        spool.close()
        raise
    telemetry = setup_telemetry(settings.telemetry, "groundwatch-sidecar")
    tally = Tally(then=IntakeTelemetry(telemetry.instruments, spool.state))
    producer = Producer(kafka)
    forwarder = Forwarder(
        spool,
        producer,
        topic=kafka.traces_topic,
        counters=tally,
        prepare=lambda: ensure_topics(kafka, [kafka.traces_topic]),
    )
    patience = Patience(
        settle=settings.sidecar.span_settle_seconds,
        idle=settings.sidecar.span_idle_seconds,
        limit=settings.sidecar.span_limit_seconds,
    )
    assembler = Assembler(exports, spool, tally=tally, patience=patience, max_bytes=settings.sidecar.span_memory_bytes)
    limits = Limits(max_batch=settings.sidecar.max_batch, max_request_bytes=settings.sidecar.max_request_bytes)
    api = Api(spool=spool, forwarding=forwarder.state, tally=tally, limits=limits, assembly=lambda: assembler.state)
    otlp = OtlpApi(exports, tally=tally, max_request_bytes=settings.sidecar.max_request_bytes)
    forwarder.start()
    assembler.start()
    try:
        yield Sidecar(
            app=create_app(api, otlp),
            spool=spool,
            exports=exports,
            assembler=assembler,
            forwarder=forwarder,
            tally=tally,
        )
    finally:
        assembler.stop()
        exports.close()
        forwarder.stop(drain_seconds=DRAIN_SECONDS)
        producer.close(timeout=_CLOSE_SECONDS)
        spool.close()
        telemetry.shutdown()
