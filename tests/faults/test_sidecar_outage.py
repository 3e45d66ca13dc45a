"""Kafka away, the sidecar killed twice meanwhile: whatever it acknowledged is judged afterwards, once.

`GROUNDWATCH_OUTAGE_SECONDS=300 pytest -s tests/faults/test_sidecar_outage.py` is what a release is held to.
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from monitor.config import JudgeSettings, KafkaSettings, PolicySettings, PostgresSettings, Settings
from monitor.embedded.broker import embedded_broker
from monitor.embedded.ports import LOOPBACK, free_port
from monitor.storage.accounting import accounting
from tests.support.exports import one_trace, spans_of
from tests.support.pipeline import Pipeline
from tests.support.sidecar_processes import Sidecars

SECONDS = float(os.environ.get("GROUNDWATCH_OUTAGE_SECONDS", "20"))
RATE = 200.0
THREADS = 4
DRAIN_SECONDS = 120.0 + 10 * SECONDS


class Load:
    """Callers that send an OTLP export, or a trace as JSON, when it is due, and remember what was acknowledged."""

    def __init__(self, url: str, seconds: float) -> None:
        self.acknowledged: set[str] = set()
        self.sent = 0
        self._url = url
        self._numbers = iter(range(int(RATE * seconds)))
        self._taking = threading.Lock()
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        dice = random.Random(seed)
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while True:
                with self._taking:
                    number = next(self._numbers, None)
                if number is None:
                    return
                time.sleep(max(0.0, self._began + number / RATE - time.monotonic()))
                try:
                    trace_id = self._send(client, number, dice)
                except httpx.TransportError:
                    # The sidecar is dead: an exporter would try again, this one counts what got through.
                    time.sleep(0.05)
                    continue
                if trace_id:
                    self.acknowledged.add(trace_id)
                self.sent += 1

    def _send(self, client: httpx.Client, number: int, dice: random.Random) -> str | None:
        if number % 2:
            export = one_trace(dice)
            headers = {"content-type": "application/x-protobuf"}
            answer = client.post("/v1/traces", content=export.SerializeToString(), headers=headers)
            return spans_of(export)[0].trace_id.hex() if answer.status_code == 200 else None
        documents = [{"id": "d", "text": f"Office {number} opens at nine."}]
        trace = {"trace_id": f"json-{number}", "service": "s", "question": "When?", "answer": "At nine."}
        answer = client.post("/v1/rag/traces", json={**trace, "documents": documents})
        return f"json-{number}" if answer.status_code == 202 else None


@pytest.fixture
def settings(postgres_url: str) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=f"{LOOPBACK}:{free_port()}", session_timeout_seconds=6.0),
        postgres=PostgresSettings(url=SecretStr(postgres_url)),
        judge=JudgeSettings(batch_seconds=0.1),
        # No pool here: what waits for one would wait for ever.
        policy=PolicySettings(audit_share=0, escalate_unsure_share=0),
    )


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(7200)
def test_what_was_acknowledged_in_an_outage_is_judged_once(
    line: Pipeline, settings: Settings, tmp_path: Path, exits: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDWATCH_SIDECAR__SPAN_SETTLE_SECONDS", "1")
    sidecars = Sidecars(tmp_path, settings.kafka)
    child = exits.enter_context(sidecars.start())
    load = Load(sidecars.url, SECONDS)
    for _ in range(2):
        time.sleep(SECONDS / 3)
        assert sidecars.status()["forwarded"] == 0
        child.kill()
        child = exits.enter_context(sidecars.start())
    load.join()
    assert len(load.acknowledged) > 0.5 * RATE * SECONDS

    port = int(settings.kafka.bootstrap_servers.rpartition(":")[2])
    exits.enter_context(embedded_broker(tmp_path, port=port))
    line.start("judge")
    line.start("ledger")
    verdicts = settle(line, load.acknowledged)

    counted = accounting(line.engine)
    print(f"acknowledged {len(load.acknowledged)}, ended {len(verdicts)}, {counted}")  # noqa: T201 - with -s
    assert load.acknowledged - set(verdicts) == set()
    assert max(verdicts.values()) == 1
    assert (counted.lost, counted.in_flight, counted.dead_letters) == (0, 0, 0)
    assert counted.verdicts + counted.unjudged == len(verdicts)


def settle(line: Pipeline, acknowledged: set[str]) -> dict[str, int]:
    """How often each trace has an outcome, once all that was acknowledged has one and nothing is in flight."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while True:
        with line.engine.connect() as connection:
            rows = connection.execute(text("select trace_id, count(*) from verdicts group by trace_id"))
            verdicts = {str(trace_id): int(count) for trace_id, count in rows}
        if acknowledged <= set(verdicts) and accounting(line.engine).in_flight == 0:
            return verdicts
        assert time.monotonic() < deadline, f"{len(acknowledged - set(verdicts))} of {len(acknowledged)} have none"
        time.sleep(1)
