"""llama-cpp-python's OpenAI-compatible server on SmolLM2: a real server, in a process of its own."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitor.embedded.ports import free_port
from monitor.inference.loading import shipped_gguf
from monitor.outbound import HttpClient, OutboundError

MODEL = "smollm2"
_STARTS_WITHIN_SECONDS = 60.0


@contextmanager
def llama_server(log: Path, *, context_tokens: int = 2048) -> Iterator[str]:
    """The base URL of a running server; it answers one request at a time."""
    port = free_port()
    model = shipped_gguf()
    assert model is not None
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), "--model_alias", MODEL]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", str(context_tokens)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "HOST": "127.0.0.1"})
    url = f"http://127.0.0.1:{port}/v1"
    try:
        ends = time.monotonic() + _STARTS_WITHIN_SECONDS
        with HttpClient(deadline_seconds=2.0) as client:
            while time.monotonic() < ends and process.poll() is None:
                with contextlib.suppress(OutboundError):
                    if client.get(f"{url}/models").status == 200:
                        break
                time.sleep(0.1)
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)
