"""`groundwatch sidecar`: take traces over HTTP, keep them on disk until Kafka has them."""

import gc
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.config import Settings, load_settings
from monitor.ingest.grpc_server import GrpcServer
from monitor.ingest.serve import listen, serve, url_of
from monitor.services.logs import log_to_stderr
from monitor.services.sidecar import create_sidecar

_log = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def register(app: typer.Typer) -> None:
    """Add `sidecar`."""
    app.command()(sidecar)


def sidecar(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on, instead of the setting's.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on, instead of the setting's; 0: a free one.")
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port for OTLP over gRPC, instead of the setting's; 0: a free one."),
    ] = None,
    grpc: Annotated[
        bool | None, typer.Option("--grpc/--no-grpc", help="Whether to take OTLP over gRPC, instead of the setting's.")
    ] = None,
    spool: Annotated[Path | None, typer.Option(help="Directory of the spool, instead of the setting's.")] = None,
) -> None:
    """Take traces over HTTP and send them to Kafka, until SIGTERM or Ctrl-C.

    A trace is acknowledged once it is on disk; the caller never waits for Kafka. When the sidecar is ready it
    prints one line with its URL on stderr; the line before names its address for gRPC. How to send traces:
    docs/sidecar.md.
    """
    settings = _settings(host=host, port=port, grpc_port=grpc_port, grpc=grpc, spool_directory=spool)
    log_to_stderr(settings.telemetry.log_level)
    listener = listen(settings.sidecar.host, settings.sidecar.port)
    if settings.access.tokens_file is None and settings.sidecar.host not in _LOOPBACK:
        _log.warning("no access.tokens_file: whoever reaches %s may send, for any tenant", settings.sidecar.host)
    with listener, create_sidecar(settings) as running:
        _favour_callers()
        beside = [running.grpc] if running.grpc else []
        url = url_of(listener, tls=running.tls)
        serve(running.app, listener, on_ready=lambda: _ready(url, running.grpc), beside=beside, tls=running.tls)
    if waiting := running.waiting:
        typer.echo(f"sidecar stopped; {waiting} traces wait on disk for the next one", err=True)


def _ready(url: str, grpc: GrpcServer | None) -> None:
    if grpc:
        typer.echo(f"sidecar takes OTLP over gRPC on {grpc.url}", err=True)
    typer.echo(f"sidecar ready on {url}", err=True)


def _settings(**options: Any) -> Settings:
    settings = load_settings()
    given = {name: value for name, value in options.items() if value is not None}
    return settings.model_copy(update={"sidecar": settings.sidecar.model_copy(update=given)})


def _favour_callers() -> None:
    """Keep the two pauses of the interpreter short that a caller would feel."""
    # What start-up made stays: without this, every full collection walks all of it, for tens of milliseconds.
    gc.collect()
    gc.freeze()
    # A thread that computes yields after 0.5 ms, not 5.
    sys.setswitchinterval(0.0005)
