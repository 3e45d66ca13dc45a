"""A real OpenAI-compatible server on this machine: llama-cpp-python's, with one GGUF model."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from monitor.embedded.ports import LOOPBACK, free_port
from monitor.embedded.processes import Child
from monitor.outbound import HttpClient, OutboundError

_READY_SECONDS = 120.0
_OK = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelServer:
    """A server's base URL and its model's name there; how it was started, where that is known."""

    url: str
    model: str
    context_tokens: int | None = None


@contextmanager
def model_server(gguf: Path, *, directory: Path, context_tokens: int = 8192) -> Iterator[ModelServer]:
    """The server for the length of a `with` block, with log-probabilities and all cores.

    Args:
        gguf: the model.
        directory: holds the log.
        context_tokens: prompt and reply of one request together.

    Raises:
        ProcessFailed: it does not come up; with the end of its log.
    """
    port, threads = free_port(), os.cpu_count() or 1
    argv = [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--model_alias", gguf.stem]
    argv += ["--host", LOOPBACK, "--port", str(port), "--n_ctx", str(context_tokens), "--logits_all", "true"]
    argv += ["--n_threads", str(threads), "--n_threads_batch", str(threads)]
    url = f"http://{LOOPBACK}:{port}/v1"
    # Asked gently it would first finish what it writes for clients that have gone, and it has nothing to lose.
    with Child("model server", argv, log=directory / "model-server.log", stop_signal=signal.SIGKILL) as server:
        server.wait_until(lambda: _answers(f"{url}/models"), deadline_seconds=_READY_SECONDS)
        yield ModelServer(url=url, model=gguf.stem, context_tokens=context_tokens)


def _answers(url: str) -> bool:
    try:
        with HttpClient(deadline_seconds=2.0) as client:
            return client.get(url).status == _OK
    except OutboundError:
        return False
