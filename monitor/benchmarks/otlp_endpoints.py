"""The OTLP endpoints that `groundwatch bench sidecar` sends to, each a process of its own."""

import contextlib
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psutil

from monitor.config import Settings, to_environment
from monitor.embedded.broker import start_broker
from monitor.embedded.ports import LOOPBACK, accepts_connections, free_port
from monitor.embedded.processes import Child
from monitor.outbound import HttpClient

_READY_SECONDS = 180.0
_STATUS_SECONDS = 30.0
_STOPPED_SECONDS, _RUNNING_SECONDS = 0.8, 0.2


class Endpoint(Protocol):
    """Something that takes OTLP over HTTP."""

    name: str
    url: str

    @property
    def pid(self) -> int:
        """Of its process; its children count as its own."""

    def finished(self) -> int:
        """Traces that it is done with, since it started."""


class EmptyEndpoint:
    """Answers each export as it has to be answered, and does nothing with it."""

    name = "empty endpoint"

    def __init__(self, child: Child, port: int) -> None:
        self._child = child
        self.url = f"http://{LOOPBACK}:{port}/v1/traces"

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._child.pid

    def finished(self) -> int:
        """None: it looks into nothing."""
        return 0


class SidecarEndpoint:
    """Our sidecar, as `groundwatch sidecar` starts it; done with a trace once Kafka has it."""

    name = "sidecar"

    def __init__(self, child: Child, port: int) -> None:
        self._child = child
        self._root = f"http://{LOOPBACK}:{port}"
        self.url = f"{self._root}/v1/traces"

    @property
    def pid(self) -> int:
        """Of the receiving process."""
        return self._child.pid

    def finished(self) -> int:
        """Traces that Kafka has confirmed."""
        with HttpClient(deadline_seconds=_STATUS_SECONDS) as client:
            return int(client.get(f"{self._root}/v1/status").json()["forwarded"])


class PhoenixEndpoint:
    """Arize Phoenix with its defaults, SQLite behind it; done with a trace once that is in its database."""

    name = "Phoenix"

    def __init__(self, child: Child, port: int, directory: Path) -> None:
        self._child = child
        self._database = directory / "phoenix.db"
        self.url = f"http://{LOOPBACK}:{port}/v1/traces"

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._child.pid

    def finished(self) -> int:
        """Traces in its database."""
        with contextlib.closing(sqlite3.connect(self._database, timeout=30)) as connection:
            return int(connection.execute("select count(*) from traces").fetchone()[0])


@contextmanager
def empty_endpoint(directory: Path) -> Iterator[EmptyEndpoint]:
    """One that runs for the length of a `with` block."""
    port = free_port()
    argv = [sys.executable, "-m", "monitor.benchmarks.empty_endpoint", str(port)]
    with Child("empty endpoint", argv, log=directory / "empty.log") as child:
        child.wait_until(lambda: accepts_connections(port), deadline_seconds=_READY_SECONDS)
        yield EmptyEndpoint(child, port)


@contextmanager
def sidecar_endpoint(settings: Settings, directory: Path, *, bootstrap_servers: str) -> Iterator[SidecarEndpoint]:
    """A sidecar with a spool of its own, for the length of a `with` block."""
    port = free_port()
    sidecar = settings.sidecar.model_copy(update={"port": port, "grpc": False, "spool_directory": directory / "spool"})
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": bootstrap_servers})
    own = settings.model_copy(update={"sidecar": sidecar, "kafka": kafka})
    argv = [str(Path(sys.executable).with_name("groundwatch")), "sidecar"]
    with Child("sidecar", argv, log=directory / "sidecar.log", environment=to_environment(own)) as child:
        child.wait_until(lambda: accepts_connections(port), deadline_seconds=_READY_SECONDS)
        yield SidecarEndpoint(child, port)


@contextmanager
def phoenix_endpoint(python: Path, directory: Path) -> Iterator[PhoenixEndpoint]:
    """Phoenix from the environment of this interpreter, for the length of a `with` block."""
    port = free_port()
    environment = {
        **os.environ,
        "PHOENIX_HOST": LOOPBACK,
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_WORKING_DIR": str(directory),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    argv = [str(python), "-m", "phoenix.server.main", "serve"]
    with Child("Phoenix", argv, log=directory / "phoenix.log", environment=environment) as child:
        child.wait_until(lambda: accepts_connections(port), deadline_seconds=_READY_SECONDS)
        yield PhoenixEndpoint(child, port, directory)


@contextmanager
def slow_broker(directory: Path) -> Iterator[str]:
    """A broker that is stopped for 0.8 s of every second; gives its `host:port`."""
    child, address = start_broker(directory)
    ending = threading.Event()

    def torment() -> None:
        process = psutil.Process(child.pid)
        while not ending.wait(_RUNNING_SECONDS):
            process.send_signal(signal.SIGSTOP)
            ending.wait(_STOPPED_SECONDS)
            process.send_signal(signal.SIGCONT)

    with child:
        thread = threading.Thread(target=torment, daemon=True)
        thread.start()
        try:
            yield address
        finally:
            ending.set()
            thread.join()
