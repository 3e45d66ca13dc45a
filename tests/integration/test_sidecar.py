"""The sidecar as its users have it: a process, HTTP in front, a broker behind or not."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer, format_trace_id

from monitor.config import KafkaSettings
from monitor.embedded.broker import embedded_broker
from monitor.embedded.ports import LOOPBACK, free_port
from monitor.embedded.processes import Child
from tests.support.sidecar_processes import READY, Sidecars
from tests.support.topic_reader import read_all

SECONDS = 30.0


def trace(trace_id: str) -> dict[str, Any]:
    documents = [{"id": "d", "text": "The office opens at nine. " * 40}]
    return {"trace_id": trace_id, "service": "s", "question": "When?", "documents": documents, "answer": "At nine."}


class Load:
    """A caller that sends one trace after another, and remembers which were acknowledged."""

    def __init__(self, url: str, name: str) -> None:
        self.acknowledged: list[str] = []
        self._url = f"{url}/v1/rag/traces"
        self._name = name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with httpx.Client(timeout=SECONDS) as client:
            for number in count():
                if self._stop.is_set():
                    return
                trace_id = f"{self._name}-{number}"
                try:
                    response = client.post(self._url, json=trace(trace_id))
                except httpx.TransportError:
                    time.sleep(0.02)
                    continue
                if response.status_code == 202:
                    self.acknowledged.append(trace_id)

    def wait_for_more(self, count: int) -> None:
        wanted = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= wanted)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(SECONDS)


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _load_with_two_kills(sidecars: Sidecars, exits: ExitStack) -> tuple[set[str], Child]:
    child = exits.enter_context(sidecars.start())
    loads = [Load(sidecars.url, f"caller{n}") for n in range(4)]
    for load in loads:
        exits.callback(load.stop)
    for _ in range(2):
        before = sum(len(load.acknowledged) for load in loads)
        eventually(lambda before=before: sum(len(load.acknowledged) for load in loads) > before + 150)
        child.kill()
        child = exits.enter_context(sidecars.start())
    before = sum(len(load.acknowledged) for load in loads)
    eventually(lambda: sum(len(load.acknowledged) for load in loads) > before + 150)
    for load in loads:
        load.stop()
    return {trace_id for load in loads for trace_id in load.acknowledged}, child


def _ids(kafka: KafkaSettings) -> list[str]:
    return [json.loads(value)["trace_id"] for value in read_all(kafka, kafka.traces_topic)]


def test_killed_twice_under_load_every_acknowledged_trace_reaches_kafka(
    kafka_settings: KafkaSettings, tmp_path: Path, exits: ExitStack
) -> None:
    sidecars = Sidecars(tmp_path, kafka_settings)
    acknowledged, _ = _load_with_two_kills(sidecars, exits)
    eventually(lambda: sidecars.status()["spool"]["records"] == 0)

    assert len(acknowledged) > 450
    assert acknowledged - set(_ids(kafka_settings)) == set()


def test_killed_twice_while_the_broker_is_down_nothing_is_lost_once_it_is_up(tmp_path: Path, exits: ExitStack) -> None:
    port = free_port()
    kafka = KafkaSettings(bootstrap_servers=f"{LOOPBACK}:{port}", traces_topic="late.traces.v1")
    sidecars = Sidecars(tmp_path, kafka)
    acknowledged, child = _load_with_two_kills(sidecars, exits)
    waiting = sidecars.status()
    assert waiting["spool"]["records"] >= len(acknowledged) > 450
    assert waiting["kafka"]["state"] != "up"
    # A sidecar that is told to stop while Kafka is away goes at once, and leaves the rest to the next one.
    assert child.stop(grace_seconds=SECONDS) == 0
    assert "traces wait on disk" in child.log_tail()

    exits.enter_context(embedded_broker(tmp_path, port=port))
    exits.enter_context(sidecars.start())
    eventually(lambda: sidecars.status()["spool"]["records"] == 0)

    assert acknowledged - set(_ids(kafka)) == set()


def test_a_broker_that_goes_and_comes_back_empty_gets_what_it_had_not_confirmed(
    tmp_path: Path, exits: ExitStack
) -> None:
    port = free_port()
    kafka = KafkaSettings(bootstrap_servers=f"{LOOPBACK}:{port}", traces_topic="flapping.traces.v1")
    sidecars = Sidecars(tmp_path, kafka)
    with embedded_broker(tmp_path, port=port):
        exits.enter_context(sidecars.start())
        httpx.post(f"{sidecars.url}/v1/rag/traces", json=trace("before"), timeout=SECONDS)
        eventually(lambda: sidecars.status()["forwarded"] == 1)
    response = httpx.post(f"{sidecars.url}/v1/rag/traces", json=[trace(f"t-{n}") for n in range(50)], timeout=SECONDS)
    assert response.status_code == 202
    eventually(lambda: sidecars.status()["kafka"]["state"] == "down")

    exits.enter_context(embedded_broker(tmp_path, port=port))
    eventually(lambda: sidecars.status()["spool"]["records"] == 0, seconds=120)

    assert set(_ids(kafka)) == {f"t-{n}" for n in range(50)}


def test_sigterm_drains_and_ends_with_status_zero(
    kafka_settings: KafkaSettings, tmp_path: Path, exits: ExitStack
) -> None:
    sidecars = Sidecars(tmp_path, kafka_settings)
    child = exits.enter_context(sidecars.start())
    for start in range(0, 1000, 100):
        batch = [trace(f"t-{n}") for n in range(start, start + 100)]
        assert httpx.post(f"{sidecars.url}/v1/rag/traces", json=batch, timeout=SECONDS).status_code == 202

    assert child.stop(grace_seconds=SECONDS) == 0

    assert sorted(_ids(kafka_settings)) == sorted(f"t-{n}" for n in range(1000))
    assert "wait on disk" not in child.log_tail()


def test_port_zero_takes_a_free_one_and_the_ready_line_names_it(tmp_path: Path, exits: ExitStack) -> None:
    sidecars = Sidecars(tmp_path, KafkaSettings(bootstrap_servers=f"{LOOPBACK}:1"))
    child = exits.enter_context(sidecars.start("--port", "0"))
    (line,) = [line for line in child.log.read_text().splitlines() if line.startswith(READY)]
    assert httpx.get(line.removeprefix(READY) + "/healthz", timeout=SECONDS).json() == {"status": "ok"}


def test_a_second_sidecar_on_the_same_spool_is_refused_with_a_message(tmp_path: Path, exits: ExitStack) -> None:
    sidecars = Sidecars(tmp_path, KafkaSettings(bootstrap_servers=f"{LOOPBACK}:1"))
    exits.enter_context(sidecars.start())
    second = exits.enter_context(sidecars.spawn("--port", "0"))

    assert second.wait(deadline_seconds=SECONDS) == 1
    assert "in use by another sidecar" in second.log_tail()
    assert "Traceback" not in second.log_tail()


def test_a_port_that_is_taken_is_refused_with_a_message(tmp_path: Path, exits: ExitStack) -> None:
    sidecars = Sidecars(tmp_path, KafkaSettings(bootstrap_servers=f"{LOOPBACK}:1"))
    exits.enter_context(sidecars.start())
    second = exits.enter_context(sidecars.spawn("--port", sidecars.url.rpartition(":")[2]))

    assert second.wait(deadline_seconds=SECONDS) == 1
    assert "cannot listen on" in second.log_tail()
    assert "Traceback" not in second.log_tail()


def _answer(tracer: Tracer, number: int) -> str:
    """One question, as a service instrumented with OpenInference answers it; the trace's id."""
    kind = "openinference.span.kind"
    with tracer.start_as_current_span(
        "chain", attributes={kind: "CHAIN", "input.value": f"Question {number}?"}
    ) as chain:
        document = {"retrieval.documents.0.document.content": f"Text {number}."}
        with tracer.start_as_current_span("retriever", attributes={kind: "RETRIEVER", **document}):
            pass
        with tracer.start_as_current_span("llm", attributes={kind: "LLM"}):
            pass
        chain.set_attribute("output.value", f"Answer {number}.")
        return format_trace_id(chain.get_span_context().trace_id)


def test_a_stock_exporter_is_all_that_an_instrumented_service_needs(
    kafka_settings: KafkaSettings, tmp_path: Path, exits: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecars = Sidecars(tmp_path, kafka_settings)
    monkeypatch.setenv("GROUNDWATCH_SIDECAR__SPAN_SETTLE_SECONDS", "1")
    child = exits.enter_context(sidecars.start())
    # Only the endpoint is set, as it would be by OTEL_EXPORTER_OTLP_ENDPOINT.
    exporter = OTLPSpanExporter(f"{sidecars.url}/v1/traces", compression=Compression.Gzip)
    provider = TracerProvider(resource=Resource.create({"service.name": "desk"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=100, max_export_batch_size=7))
    tracer = provider.get_tracer("test")
    expected = {_answer(tracer, number): number for number in range(40)}
    assert provider.force_flush()
    child.kill()
    exits.enter_context(sidecars.start())
    expected |= {_answer(tracer, number): number for number in range(40, 80)}
    assert provider.force_flush()
    provider.shutdown()
    eventually(lambda: set(_ids(kafka_settings)) >= set(expected))
    for value in read_all(kafka_settings, kafka_settings.traces_topic):
        trace = json.loads(value)
        number = expected[trace["trace_id"]]
        assert (trace["question"], trace["answer"]) == (f"Question {number}?", f"Answer {number}.")
        assert [document["text"] for document in trace["documents"]] == [f"Text {number}."]
        assert trace["service"] == "desk"


def test_a_dispatching_process_that_is_killed_is_replaced_and_loses_nothing(
    kafka_settings: KafkaSettings, tmp_path: Path, exits: ExitStack
) -> None:
    sidecars = Sidecars(tmp_path, kafka_settings)
    child = exits.enter_context(sidecars.start())
    load = Load(sidecars.url, "caller")
    exits.callback(load.stop)
    for _ in range(2):
        load.wait_for_more(100)
        spawned = [one for one in psutil.Process(child.pid).children() if "spawn_main" in " ".join(one.cmdline())]
        assert len(spawned) == 1
        spawned[0].kill()
    load.wait_for_more(100)
    load.stop()
    eventually(lambda: sidecars.status()["spool"]["records"] == 0)

    assert set(load.acknowledged) - set(_ids(kafka_settings)) == set()
    assert "the dispatching process ended (exit code -9)" in child.log.read_text()


def test_the_dispatching_process_ends_with_a_sidecar_that_is_killed(tmp_path: Path, exits: ExitStack) -> None:
    sidecars = Sidecars(tmp_path, KafkaSettings(bootstrap_servers=f"{LOOPBACK}:1"))
    child = exits.enter_context(sidecars.start())
    eventually(lambda: len(psutil.Process(child.pid).children()) == 2)
    children = psutil.Process(child.pid).children()
    child.kill()
    assert psutil.wait_procs(children, timeout=SECONDS)[1] == []
