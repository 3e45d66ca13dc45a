"""Sidecars as their users have them: processes."""

import os
import sys
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from monitor.config import KafkaSettings, Settings, to_environment
from monitor.embedded.ports import LOOPBACK, free_port
from monitor.embedded.processes import Child

READY = "sidecar ready on "
_SECONDS = 30.0
_numbers = count()


class Sidecars:
    """One sidecar after another over the same spool and on the same port.

    Args:
        directory: of their spool and logs.
        kafka: every setting of it.
        environment: more settings.
    """

    def __init__(self, directory: Path, kafka: KafkaSettings, **environment: str) -> None:
        self.directory = directory
        self.url = f"http://{LOOPBACK}:{free_port()}"
        self.grpc_url = f"http://{LOOPBACK}:{free_port()}"
        every = to_environment(Settings(kafka=kafka)).items()
        self._kafka = {name: value for name, value in every if name.startswith("GROUNDWATCH_KAFKA__")}
        self._more = environment

    def start(self, *options: str) -> Child:
        child = self.spawn("--port", self.url.rpartition(":")[2], *options)
        child.wait_until(lambda: READY in child.log.read_text(), deadline_seconds=_SECONDS)
        return child

    def spawn(self, *options: str) -> Child:
        command = str(Path(sys.executable).with_name("groundwatch"))
        argv = [command, "sidecar", "--spool", str(self.directory / "spool")]
        argv += ["--grpc-port", self.grpc_url.rpartition(":")[2], *options]
        log = self.directory / f"sidecar-{next(_numbers)}.log"
        return Child("sidecar", argv, log=log, environment={**os.environ, **self._kafka, **self._more})

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/v1/status", timeout=_SECONDS).json()
        return found
