"""The alert rules that ship, read by Prometheus' own tools, and held against the metrics that are really scraped."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import start_http_server

from monitor.domain.dead_letter import DeadLetterReason
from monitor.embedded.ports import free_port
from monitor.embedded.processes import Child
from monitor.telemetry.instruments import Instruments
from monitor.telemetry.setup import Telemetry
from monitor.telemetry.sidecar import AssemblyReading, SidecarInstruments, SpoolReading
from tests.examples.alerts import alert
from tests.examples.assessments import assessment, trace

RULES = Path(__file__).parents[2] / "deploy" / "prometheus"
FILE = RULES / "groundwatch.rules.yml"
DEADLINE = 60.0
EXPRESSIONS = [rule["expr"] for group in yaml.safe_load(FILE.read_text("utf-8"))["groups"] for rule in group["rules"]]
NAMES = sorted({name for text in EXPRESSIONS for name in re.findall(r"\bgroundwatch_\w+(?=[{(\[ ])", f"{text} ")})

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="Prometheus is not installed; on Debian: apt-get install prometheus"
)


def promtool(*arguments: str) -> str:
    ended = subprocess.run(["promtool", *arguments], cwd=RULES, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_rules_are_what_promtool_says_and_do_what_their_tests_say() -> None:
    assert "15 rules found" in promtool("check", "rules", FILE.name)
    assert "SUCCESS" in promtool("test", "rules", "groundwatch.rules.test.yml")
    assert "valid prometheus config" in promtool("check", "config", "prometheus.yml")


def speak(instruments: Instruments) -> None:
    """Everything that the rules listen to, once."""
    instruments.accounting({"accepted": 10, "verdicts": 7, "in_flight": 1, "lost": 2})
    instruments.assessed(assessment(0))
    instruments.alert_raised(alert())
    instruments.evidence(trace("any").segment, 8.9, threshold=9.9)
    instruments.late_verdicts(trace("any").segment, 4)
    instruments.queue_lag("rag.traces.v1", 5)
    instruments.dead_letter(DeadLetterReason.NOT_JSON)
    instruments.pool_server("http://pool:8000/v1", permits=1, circuit_open=False)
    instruments.escalations_waiting(3)
    instruments.delivery("webhook", "dead")
    instruments.intake("dropped", 5, reason="too_old")


def hold(meter: Meter) -> None:
    """A sidecar whose oldest trace has waited for an hour."""
    waiting = SpoolReading(spool="traces", size_bytes=1, records=1, oldest_seconds=3600.0)
    idle = AssemblyReading(open=0, waiting_bytes=0, late_spans=0, became={}, completed={})
    SidecarInstruments(meter, spools=lambda: [waiting], assembly=lambda: idle)


@contextmanager
def scraped() -> Iterator[int]:
    """Our metrics behind a real scrape endpoint; its port."""
    port = free_port()
    server, thread = start_http_server(port, addr="127.0.0.1")
    telemetry = Telemetry(
        meter_provider=MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False),
        logger_provider=LoggerProvider(shutdown_on_exit=False),
        tracer_provider=TracerProvider(shutdown_on_exit=False),
    )
    speak(telemetry.instruments)
    hold(telemetry.meter)
    try:
        yield port
    finally:
        telemetry.shutdown()
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def prometheus(target: int, directory: Path) -> Iterator[tuple[Child, str]]:
    """A real Prometheus with our rules, their waiting times left out, and the URL of its API."""
    rules = yaml.safe_load(FILE.read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    (directory / "rules.yml").write_text(yaml.safe_dump(rules))
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "g", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(settings))
    address = f"127.0.0.1:{free_port()}"
    argv = [
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
    ]
    with Child("prometheus", argv, log=directory / "prometheus.log") as running:
        url = f"http://{address}/api/v1"
        running.wait_until(lambda: _answers(url), deadline_seconds=DEADLINE)
        yield running, url


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/status/buildinfo").is_success
    except httpx.TransportError:
        return False


def asked(url: str, path: str, **parameters: str) -> Any:
    return httpx.get(f"{url}/{path}", params=parameters).raise_for_status().json()["data"]


@pytest.mark.timeout(180)
def test_prometheus_finds_each_metric_of_the_rules_and_fires(tmp_path: Path) -> None:
    expected = {
        *("RecordsLost", "HallucinationRateRose", "DeadLetters", "AlertNotDelivered"),
        *("TracesWaitLong", "TracesTooOld"),
    }
    with scraped() as port, prometheus(port, tmp_path) as (running, url):
        running.wait_until(lambda: set(NAMES) <= set(asked(url, "label/__name__/values")), deadline_seconds=DEADLINE)
        running.wait_until(lambda: set(firing(url)) >= expected, deadline_seconds=DEADLINE)
        said = firing(url)
    assert said["RecordsLost"].startswith("2 records")
    assert said["HallucinationRateRose"].startswith("city/help-desk ")


def test_the_rules_name_metrics() -> None:
    assert len(NAMES) >= 10


def firing(url: str) -> dict[str, str]:
    """The summary of each alert that fires, by its rule."""
    return {one["labels"]["alertname"]: one["annotations"]["summary"] for one in asked(url, "alerts")["alerts"]}
