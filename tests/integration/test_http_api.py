"""Schemathesis against a real sidecar: what its API says of itself is what it does, whatever it is sent."""

import subprocess
import sys
from pathlib import Path

import pytest

from monitor.config import KafkaSettings
from monitor.embedded.ports import LOOPBACK
from tests.support.sidecar_processes import Sidecars

CONFIG = Path(__file__).parents[1] / "data" / "schemathesis.toml"
EXAMPLES = 25
"""Requests that each route is tried with in this phase; the others (what a schema's limits suggest) come on top."""

SECONDS = 240


@pytest.mark.slow
def test_the_http_api_keeps_to_its_description(tmp_path: Path) -> None:
    sidecars = Sidecars(tmp_path, KafkaSettings(bootstrap_servers=f"{LOOPBACK}:1"), GROUNDWATCH_CHECK__ENABLED="true")
    with sidecars.start() as child:
        child.wait_until(lambda: sidecars.status()["checking"]["state"] == "ready", deadline_seconds=SECONDS)
        argv = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG), "run"]
        argv += [f"{sidecars.url}/openapi.json", "--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "1"]
        ended = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert ended.returncode == 0, ended.stdout[-20_000:]
        assert "No issues found" in ended.stdout
        assert child.returncode is None
        # It has really sent: some was accepted, and some was refused.
        status = sidecars.status()
        assert status["accepted"] > EXAMPLES
        assert status["refused"]["invalid"] > 0
        answered = status["checking"]["answered"]
        assert answered["could_not_judge"] > 0
        assert answered["refused"] > 0
    assert "Traceback" not in child.log.read_text()
