"""A sidecar under exports that nobody should send: it answers each rightly, stays within its memory, and goes on.

`GROUNDWATCH_MUTATIONS=100000 pytest -s tests/faults/test_mutated_exports.py` sends as many as a release is held to.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from monitor.config import KafkaSettings
from tests.examples.spans import answers, recorded_bytes
from tests.support.mutant_senders import send_all
from tests.support.sidecar_processes import Sidecars
from tests.support.topic_reader import read_all

NUMBER = int(os.environ.get("GROUNDWATCH_MUTATIONS", "3000"))
SEED = 20260501
MAX_BYTES = 16 * 1024 * 1024
"""The default of `sidecar.max_request_bytes`: this sidecar has the settings that everybody has."""

MOST_MEMORY = 512 * 1024 * 1024
"""What deploy/compose.yaml allows a sidecar."""

DRAIN_SECONDS = 300.0
SETTINGS = {"GROUNDWATCH_SIDECAR__SPAN_SETTLE_SECONDS": "1", "GROUNDWATCH_SIDECAR__SPAN_IDLE_SECONDS": "5"}


class Memory:
    """Resident memory of a process and its children, looked at ten times a second."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.begin = self.peak = self.now

    @property
    def now(self) -> int:
        family = [self._process, *self._process.children(recursive=True)]
        return sum(int(process.memory_info().rss) for process in family)

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1) and self._process.is_running():
            self.peak = max(self.peak, self.now)


def until(reached: Callable[[], bool], *, seconds: float = DRAIN_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_spoilt_exports_are_answered_rightly_and_cost_no_memory(
    kafka_settings: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    sidecars = Sidecars(tmp_path, kafka_settings)

    def drained() -> bool:
        status = sidecars.status()
        waiting = [status[name]["records"] for name in ("exports", "assembled", "spool")]
        return not (status["assembly"]["open"] or any(waiting))

    with sidecars.start() as child:
        memory = Memory(child.pid)
        began = time.monotonic()
        with memory.watched():
            answered = send_all(sidecars.url, seed=SEED, number=NUMBER, processes=2, max_bytes=MAX_BYTES)
            seconds = time.monotonic() - began
            until(drained)
        told = ", ".join(f"{n} {size / 2**20:.0f}" for n, size in vars(memory).items() if isinstance(size, int))
        print(f"{answered.counts.total():,} in {seconds:.0f} s; MiB: {told}, end {memory.now / 2**20:.0f}")  # noqa: T201 - with -s
        print(answered.table())  # noqa: T201 - likewise
        assert child.returncode is None
        assert answered.wrong == []
        assert answered.counts.total() >= NUMBER
        assert memory.peak < MOST_MEMORY

        good = httpx.post(
            f"{sidecars.url}/v1/traces",
            content=recorded_bytes("oi-langchain", "pb"),
            headers={"content-type": "application/x-protobuf"},
        )
        assert (good.status_code, good.content) == (200, b"")
        expected = answers("oi-langchain")
        before = sidecars.status()["forwarded"]
        until(lambda: sidecars.status()["forwarded"] >= before + len(expected) and drained())
        traces = [json.loads(value) for value in read_all(kafka_settings, kafka_settings.traces_topic)]
        found = {trace["trace_id"]: trace for trace in traces if trace["trace_id"] in expected}
        for trace_id, answer in expected.items():
            assert (found[trace_id]["question"], found[trace_id]["answer"]) == (answer["question"], answer["answer"])
            assert [document["text"] for document in found[trace_id]["documents"]] == answer["documents"]
    assert "Traceback" not in child.log.read_text()
