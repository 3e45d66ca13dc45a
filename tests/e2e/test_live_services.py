"""Live RAG services with stock instrumentors and stock exporters, told nothing but an endpoint, end to end.

The services are processes in an environment of their own (`make test-e2e` makes it). Each writes down what it was
asked, what it used and what it answered, and in which span: Postgres and the events must tell the same.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from monitor.config import SidecarSettings
from monitor.embedded.ports import LOOPBACK, free_port
from monitor.embedded.stack import Stack, StackPlan
from monitor.storage.accounting import accounting
from monitor.storage.engine import LedgerEngine, create_ledger_engine
from tests.support.telemetry_collectors import Collector, collecting

SERVICES = Path(__file__).parent / "services"
ASKED = {"langchain": 18, "llamaindex": 12}
"""Questions that each service asks."""

PYTHON = str(Path(os.environ.get("GROUNDWATCH_E2E_PYTHON", sys.executable)).absolute())
DEADLINE = 120.0
GRPC = "grpc_port" in SidecarSettings.model_fields
JUDGED = """
select question, documents, answer, otel_trace_id, otel_span_id, label
from verdicts join traces using (tenant, trace_id)
where traces.service = :service and outcome = 'verdict'
"""


@cache
def missing() -> str:
    """What the services' interpreter cannot import; empty when it has all of extra `e2e`."""
    probe = "import langchain.agents, llama_index.core, openinference.instrumentation.langchain, "
    probe += "openinference.instrumentation.llama_index, opentelemetry.distro, opentelemetry.exporter.otlp.proto.grpc"
    ended = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True, timeout=60, check=False)
    return ended.stderr.strip().rpartition("\n")[2]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"{PYTHON} lacks the extra e2e ({missing()}): run `make test-e2e`"),
]


@dataclass(frozen=True, kw_only=True)
class System:
    """groundwatch, all of it, and where its own telemetry goes."""

    stack: Stack
    engine: LedgerEngine
    collector: Collector
    endpoints: dict[str, str]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("live")
    for parent in (directory, directory.parent):
        parent.chmod(0o755)  # Postgres runs as another user
    with ExitStack() as exits:
        collector, url = exits.enter_context(collecting())
        overrides: dict[str, dict[str, Any]] = {"telemetry": {"otlp_endpoint": url}, "policy": {"audit_share": 0.0}}
        grpc = free_port()
        if GRPC:
            overrides["sidecar"] = {"grpc": True, "grpc_port": grpc}
        plan = StackPlan(directory=directory / "stack", gguf=None, overrides=overrides)
        stack = exits.enter_context(Stack(plan, print))
        engine = create_ledger_engine(stack.settings.postgres, application_name="test", pool_size=1)
        exits.callback(engine.dispose)
        endpoints = {"http/protobuf": stack.sidecar_url, "grpc": f"http://{LOOPBACK}:{grpc}"}
        yield System(stack=stack, engine=engine, collector=collector, endpoints=endpoints)


def run_service(framework: str, protocol: str, endpoint: str, directory: Path) -> list[dict[str, Any]]:
    """Run a live service to its end; what it says of its questions."""
    answers = directory / "answers.jsonl"
    inherited = ("PATH", "HOME", "LANG", "TMPDIR")
    environment = {name: os.environ[name] for name in inherited if name in os.environ} | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_SERVICE_NAME": f"{framework}-{protocol.partition('/')[0]}",
    }
    instrument = Path(PYTHON).with_name("opentelemetry-instrument")
    argv = [str(instrument), PYTHON, str(SERVICES / f"{framework}_service.py"), str(answers)]
    ended = subprocess.run(
        argv, env=environment, cwd=directory, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "Failed to export" not in ended.stderr, ended.stderr
    return [json.loads(line) for line in answers.read_text().splitlines()]


def until(system: System, reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not reached():
        system.stack.check()
        assert time.monotonic() < deadline, accounting(system.engine)
        time.sleep(0.2)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("framework", ASKED)
@pytest.mark.parametrize(
    "protocol",
    [
        "http/protobuf",
        pytest.param("grpc", marks=pytest.mark.skipif(not GRPC, reason="this sidecar has no sidecar.grpc_port")),
    ],
)
def test_each_question_of_a_live_service_has_one_verdict_and_one_event_beside_its_span(
    system: System, framework: str, protocol: str, tmp_path: Path
) -> None:
    service = f"{framework}-{protocol.partition('/')[0]}"
    asked = run_service(framework, protocol, system.endpoints[protocol], tmp_path)
    assert len(asked) == ASKED[framework]
    until(system, lambda: len(verdicts(system.engine, service)) == len(asked))

    judged = {row["otel_trace_id"]: row for row in verdicts(system.engine, service)}
    spans = {one["trace_id"]: one["span_id"] for one in asked}
    assert len(judged) == len(spans) == len(asked)
    for one in asked:
        row = judged[one["trace_id"]]
        assert (row["question"], row["answer"]) == (one["question"], one["answer"])
        assert [document["text"] for document in row["documents"]] == one["documents"]
        assert row["otel_span_id"] == one["span_id"]
        assert row["label"] == ("hallucinated" if "elephants" in one["answer"] else "faithful")

    def told() -> list[tuple[str, str]]:
        events = system.collector.events("gen_ai.evaluation.result")
        ids = [(event.trace_id.hex(), event.span_id.hex()) for event in events]
        return sorted(pair for pair in ids if pair[0] in spans)

    until(system, lambda: len(told()) >= len(asked))
    assert told() == sorted(spans.items())
    counted = accounting(system.engine)
    assert (counted.lost, counted.dead_letters, counted.duplicates, counted.in_flight) == (0, 0, 0, 0)
    assert counted.verdicts == counted.accepted


def verdicts(engine: LedgerEngine, service: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        rows = connection.execute(text(JUDGED), {"service": service})
        return [dict(row) for row in rows.mappings()]
