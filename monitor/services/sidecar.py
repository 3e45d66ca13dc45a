"""The sidecar's receiving process, composed: HTTP and gRPC in front, the spools behind, dispatching beside it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from starlette.applications import Starlette

from monitor.config import Settings, SidecarSettings
from monitor.ingest.app import Api, create_app
from monitor.ingest.body import BodyReader
from monitor.ingest.callers import OpenGate
from monitor.ingest.counters import Tally
from monitor.ingest.dispatch_link import FEEDBACK, TRACES
from monitor.ingest.dispatcher import Dispatcher
from monitor.ingest.feedback_api import FeedbackApi
from monitor.ingest.grpc_server import GrpcServer, server_credentials
from monitor.ingest.json_requests import Limits
from monitor.ingest.otlp_api import OtlpApi
from monitor.ingest.otlp_grpc import OtlpGrpc
from monitor.ingest.otlp_intake import OtlpIntake
from monitor.ingest.rag_api import RagApi
from monitor.ingest.spool import Spool
from monitor.ingest.spool_records import SpoolState
from monitor.ingest.status_api import FeedbackStanding, StatusApi
from monitor.ingest.tee import Tee
from monitor.ingest.tee_counters import TeeCounters
from monitor.ingest.tee_target import TeeTarget
from monitor.ingest.timing import Answered
from monitor.ingest.tls import Certificate, Tls
from monitor.ingest.token_gate import TokenGate
from monitor.services.checks import checks
from monitor.services.dispatch import ASSEMBLED, EXPORTS, open_spool, run_dispatch
from monitor.services.intake import (
    FeedbackTelemetry,
    IntakeTelemetry,
    TeeTelemetry,
    assembly_reading,
    spool_readings,
)
from monitor.services.treatment import treatment
from monitor.telemetry.setup import setup_telemetry
from monitor.telemetry.sidecar import SidecarInstruments

DRAIN_SECONDS = 5.0
"""How long a sidecar that is told to stop goes on sending what waits. The rest is sent by the next one."""

BODIES_IN_MEMORY = 4
"""Bodies of the largest size that are read at once; more are told that the sidecar is busy."""

BODY_SECONDS = 30.0
"""Within which a body must have arrived."""

_TEE_SECONDS = 4.0


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """A running sidecar's parts."""

    app: Starlette
    grpc: GrpcServer | None
    tls: Certificate | None
    spool: Spool
    dispatcher: Dispatcher

    @property
    def waiting(self) -> int:
        """Traces on disk that Kafka does not have yet."""
        assembled = self.dispatcher.state.assembled
        return self.spool.state().records + (assembled.records if assembled else 0)


@contextmanager
def create_sidecar(settings: Settings) -> Iterator[Sidecar]:
    """A sidecar that sends for as long as the context lasts; on leaving it drains, then releases the spools.

    Kafka need not be there: it is looked for in the background.

    Raises:
        SpoolUnavailable: a spool's directory is in use or cannot be written.
        InvalidSettings: tokens or certificates cannot be used.
    """
    sidecar = settings.sidecar
    tls = _tls(sidecar)
    with ExitStack() as closing:
        telemetry = setup_telemetry(settings.telemetry, "groundwatch-sidecar")
        closing.callback(telemetry.shutdown)
        spool = open_spool(settings, TRACES)
        closing.callback(spool.close)
        exports = open_spool(settings, EXPORTS)
        closing.callback(exports.close)
        feedback_spool = open_spool(settings, FEEDBACK)
        closing.callback(feedback_spool.close)
        feedback_tally = Tally(then=FeedbackTelemetry(telemetry.instruments))
        tally = Tally(then=IntakeTelemetry(telemetry.instruments))
        dispatcher = Dispatcher(
            partial(run_dispatch, settings),
            spools={TRACES: spool, EXPORTS: exports, FEEDBACK: feedback_spool},
            counters=tally,
            feedback_counters=feedback_tally,
        )
        gauges = SidecarInstruments(
            telemetry.meter,
            spools=lambda: spool_readings(_states(spool, exports, dispatcher), now=datetime.now(UTC)),
            assembly=lambda: assembly_reading(dispatcher.state.assembly),
        )
        treated = treatment(settings, tally)
        gate = TokenGate(settings.access.tokens_file) if settings.access.tokens_file else OpenGate()
        bodies = BodyReader(
            max_bytes=sidecar.max_request_bytes,
            max_total_bytes=BODIES_IN_MEMORY * sidecar.max_request_bytes,
            seconds=BODY_SECONDS,
        )
        limits = Limits(max_batch=sidecar.max_batch, max_request_bytes=sidecar.max_request_bytes)
        rag = RagApi(spool, gate=gate, bodies=bodies, tally=tally, limits=limits, treatment=treated)
        feedback = FeedbackApi(
            feedback_spool, gate=gate, bodies=bodies, tally=feedback_tally, limits=limits, treatment=treated
        )
        check = closing.enter_context(
            checks(settings, gate=gate, counters=tally, telemetry=telemetry, body_seconds=BODY_SECONDS)
        )
        tee = _tee(sidecar, TeeTelemetry(telemetry.instruments))
        intake = OtlpIntake(exports, tally=tally, max_bytes=sidecar.max_request_bytes, treatment=treated, tee=tee)
        otlp = OtlpApi(intake, gate=gate, bodies=bodies, tally=tally)
        grpc = OtlpGrpc(intake, gate=gate, bodies=bodies, tally=tally, reads=BODIES_IN_MEMORY)
        status = StatusApi(
            {TRACES: spool, EXPORTS: exports},
            gate=gate,
            dispatch=lambda: dispatcher.state,
            tally=tally,
            feedback=FeedbackStanding(spool=feedback_spool, tally=feedback_tally),
            tee=(lambda: tee.state) if tee else None,
            certificate=(lambda: tls.state) if tls else None,
            checking=(lambda: check.state) if check else None,
        )
        if tee:
            closing.callback(tee.join, seconds=_TEE_SECONDS)
            tee.start()
        dispatcher.start()
        closing.callback(dispatcher.stop, drain_seconds=DRAIN_SECONDS)
        if tee:
            # Told before the dispatcher is: the two drain side by side.
            closing.callback(tee.finish, seconds=_TEE_SECONDS)
        apis: list[Api] = [rag, feedback, otlp, *([check] if check else []), status]
        yield Sidecar(
            app=create_app(*apis, tell=partial(_answered, gauges)),
            grpc=_grpc_server(sidecar, grpc, tls) if sidecar.grpc else None,
            tls=tls,
            spool=spool,
            dispatcher=dispatcher,
        )


def _answered(gauges: SidecarInstruments, told: Answered) -> None:
    # Field by field: `asdict` copies what it is given, and this is done at each request.
    gauges.answered(method=told.method, route=told.route, status=told.status, scheme=told.scheme, seconds=told.seconds)


def _states(spool: Spool, exports: Spool, dispatcher: Dispatcher) -> dict[str, SpoolState]:
    assembled = dispatcher.state.assembled
    return {TRACES: spool.state(), EXPORTS: exports.state(), **({ASSEMBLED: assembled} if assembled else {})}


def _grpc_server(settings: SidecarSettings, service: OtlpGrpc, tls: Certificate | None) -> GrpcServer:
    return GrpcServer(
        service,
        host=settings.host,
        port=settings.grpc_port,
        max_bytes=settings.max_request_bytes,
        credentials=server_credentials(tls) if tls else None,
    )


def _tls(settings: SidecarSettings) -> Certificate | None:
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    return Certificate(Tls(certificate=certificate, key=key, client_ca=settings.tls_client_ca_file))


def _tee(settings: SidecarSettings, counters: TeeCounters) -> Tee | None:
    if settings.tee_endpoint is None:
        return None
    target = TeeTarget(
        endpoint=settings.tee_endpoint,
        headers={name: value.get_secret_value() for name, value in settings.tee_headers.items()},
        seconds=settings.tee_timeout_seconds,
        give_up_seconds=settings.tee_give_up_seconds,
    )
    return Tee(target, max_bytes=settings.tee_queue_bytes, counters=counters)
