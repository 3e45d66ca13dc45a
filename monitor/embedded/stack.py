"""The whole system on one laptop: servers, sidecar and workers, as real processes with free ports and own logs."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from monitor.config import LOCAL_SETTINGS, Settings, load_settings, to_environment, to_toml
from monitor.domain.errors import JudgeUnavailable
from monitor.embedded.broker import start_broker
from monitor.embedded.ports import LOOPBACK, free_port
from monitor.embedded.postgres import EmbeddedPostgres
from monitor.embedded.processes import Child, ProcessFailed
from monitor.inference.loading import shipped_gguf
from monitor.outbound import HttpClient, OutboundError
from monitor.storage.migrate import upgrade

WORKERS = ("judge", "ledger", "pool", "drift", "alerts")
_READY_SECONDS = 60.0
_REDIRECTION = 300
_DATABASE = "postgres"

Narrate = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class StackPlan:
    """What to start.

    Attributes:
        directory: holds data, spool and logs; made when absent.
        gguf: the model of the edge judge and of the pool server; no judge but the screen when None.
        sidecar_port: the sidecar's port; a free one when None.
        overrides: settings by section, on top of what the stack itself sets.
    """

    directory: Path
    gguf: Path | None
    sidecar_port: int | None = None
    overrides: Mapping[str, Mapping[str, Any]]


def shipped_model() -> Path:
    """The small GGUF model of the `demo` extra: it exercises the path and knows nothing of truth.

    Raises:
        JudgeUnavailable: the extra is not installed.
    """
    path = shipped_gguf()
    if path is None:
        raise JudgeUnavailable("no GGUF model: install groundwatch[demo], or name one with --gguf PATH")
    return path


class Stack:
    """Everything, for the length of a `with` block; stopped in reverse order, Kafka's clients before Kafka.

    Attributes (inside the block):
        settings: what every process was given.
        sidecar_url: where to send traces.
        children: the processes by name.
    """

    settings: Settings
    sidecar_url: str
    postgres: EmbeddedPostgres

    def __init__(self, plan: StackPlan, narrate: Narrate) -> None:
        self._plan = plan
        self._narrate = narrate
        self._exits = ExitStack()
        self.children: dict[str, Child] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    @property
    def logs(self) -> Path:
        """Where every process writes its log."""
        return self._plan.directory / "logs"

    def psql(self) -> str:
        """A command that opens the ledger while the stack is up."""
        return self.postgres.psql(_DATABASE)

    def check(self) -> None:
        """Raise ProcessFailed when a process ended although nobody asked it to."""
        for name, child in self.children.items():
            if child.returncode is not None:
                raise ProcessFailed(f"{name} ended with status {child.returncode}:\n{child.log_tail()}")

    @contextmanager
    def advertise(self) -> Iterator[None]:
        """While inside, commands in this working directory find the stack: see `monitor.config`."""
        LOCAL_SETTINGS.parent.mkdir(parents=True, exist_ok=True)
        LOCAL_SETTINGS.touch(mode=0o600)
        LOCAL_SETTINGS.write_text(to_toml(self.settings))
        try:
            yield
        finally:
            LOCAL_SETTINGS.unlink(missing_ok=True)

    def _start(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        self._narrate("starting Postgres and the broker")
        self.postgres = EmbeddedPostgres(self._plan.directory / "postgres")
        self._exits.callback(self.postgres.close)
        self.postgres.start()
        broker, address = start_broker(self.logs)
        self._exits.enter_context(broker)
        self.children["broker"] = broker
        pool_url = self._start_pool_server()
        self.settings = self._settings(address, pool_url)
        self._narrate("migrating the ledger")
        upgrade(self.settings.postgres.url.get_secret_value())
        self._narrate("starting the sidecar and the workers")
        for name in WORKERS:
            if name != "pool" or pool_url:
                self._spawn(name, [_script("groundwatch-worker"), name])
        sidecar = self._spawn("sidecar", [_script("groundwatch"), "sidecar"])
        self.sidecar_url = f"http://{LOOPBACK}:{self.settings.sidecar.port}"
        sidecar.wait_until(lambda: answers(f"{self.sidecar_url}/readyz"), deadline_seconds=_READY_SECONDS)

    def _settings(self, broker: str, pool_url: str | None) -> Settings:
        port = self._plan.sidecar_port or free_port()
        sections: dict[str, dict[str, Any]] = {
            # The embedded broker lets a group's first member wait for half the session timeout.
            "kafka": {"bootstrap_servers": broker, "session_timeout_seconds": 6.0},
            "postgres": {"url": self.postgres.url(_DATABASE)},
            # Without gRPC: its port is often taken on a laptop, and stacks run side by side.
            "sidecar": {"port": port, "grpc": False, "spool_directory": self._plan.directory / "spool"},
        }
        if self._plan.gguf and pool_url:
            sections["gguf"] = {"path": self._plan.gguf, "threads": 1}
            sections["pool"] = {"url": pool_url, "model": self._plan.gguf.stem, "revision": self._plan.gguf.name}
        for section, values in self._plan.overrides.items():
            sections[section] = sections.get(section, {}) | dict(values)
        return load_settings(**sections)

    def _start_pool_server(self) -> str | None:
        if self._plan.gguf is None:
            return None
        self._narrate("starting the pool's model server (llama.cpp, OpenAI-compatible)")
        port = free_port()
        argv = [sys.executable, "-m", "llama_cpp.server", "--model", str(self._plan.gguf)]
        argv += ["--model_alias", self._plan.gguf.stem, "--host", LOOPBACK, "--port", str(port)]
        argv += ["--n_ctx", "2048", "--n_threads", "1", "--n_threads_batch", "1", "--logits_all", "true"]
        server = Child("pool-server", argv, log=self.logs / "pool-server.log")
        self._exits.enter_context(server)
        self.children["pool-server"] = server
        url = f"http://{LOOPBACK}:{port}/v1"
        server.wait_until(lambda: answers(f"{url}/models"), deadline_seconds=_READY_SECONDS)
        return url

    def _spawn(self, name: str, argv: list[str]) -> Child:
        child = Child(name, argv, log=self.logs / f"{name}.log", environment=to_environment(self.settings))
        self._exits.enter_context(child)
        self.children[name] = child
        return child


def _script(name: str) -> str:
    # Beside the interpreter: the same environment, whatever PATH says.
    return str(Path(sys.executable).with_name(name))


def answers(url: str) -> bool:
    """Whether a GET of this loopback URL is answered with success."""
    try:
        with HttpClient(deadline_seconds=2.0) as client:
            return client.get(url).status < _REDIRECTION
    except OutboundError:
        return False
