"""The examples of docs/guardrails as they stand, against a real sidecar with the real screen.

They run in an environment of their own (`make test-e2e` makes it): NeMo Guardrails is nothing that groundwatch needs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from monitor.config import KafkaSettings
from monitor.embedded.ports import LOOPBACK, free_port
from tests.support.sidecar_processes import Sidecars

EXAMPLES = Path(__file__).parents[2] / "docs" / "guardrails"
PYTHON = str(Path(os.environ.get("GROUNDWATCH_GUARDRAILS_PYTHON", sys.executable)).absolute())
SECONDS = 120.0
SUPPORTED, UNSUPPORTED = "The office opens at nine in the morning.", "The office opens at noon on Sundays."
REFUSAL = "I cannot tell that from what I have read."


@cache
def missing() -> str:
    """What the examples' interpreter cannot import; empty when it has all of extra `guardrails`."""
    argv = [PYTHON, "-c", "import httpx, langchain_core, nemoguardrails"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)
    return ended.stderr.strip().rpartition("\n")[2]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"{PYTHON} lacks the extra guardrails ({missing()}): `make test-e2e`"),
]


@pytest.fixture(scope="module")
def sidecars(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecars]:
    nowhere = KafkaSettings(bootstrap_servers=f"{LOOPBACK}:1")
    running = Sidecars(tmp_path_factory.mktemp("guardrails"), nowhere, GROUNDWATCH_CHECK__ENABLED="true")
    with running.start() as child:
        child.wait_until(lambda: running.status()["checking"]["state"] == "ready", deadline_seconds=SECONDS)
        yield running


def run(example: str, url: str, **environment: str) -> list[str]:
    """The lines that an example writes."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    # Nothing of these examples has to be fetched, and nothing is reported.
    told = {**inherited, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "SIDECAR_URL": url, **environment}
    argv = [PYTHON, str(EXAMPLES / example)]
    ended = subprocess.run(argv, env=told, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def answers(lines: list[str]) -> list[str]:
    return [json.loads(line)["answer"] for line in lines]


def nobody() -> str:
    return f"http://{LOOPBACK}:{free_port()}"


def test_nemo_guardrails_lets_the_supported_answer_pass_and_no_other(sidecars: Sidecars) -> None:
    before = answered(sidecars)
    assert run("nemo_guardrails.py", sidecars.url) == [SUPPORTED, REFUSAL]
    assert answered(sidecars)["verdict"] == before.get("verdict", 0) + 2


def test_langchain_annotates_the_supported_answer_and_refuses_the_other(sidecars: Sidecars) -> None:
    lines = run("langchain_runnable.py", sidecars.url)
    assert answers(lines) == [SUPPORTED, REFUSAL]
    check = json.loads(lines[0])["check"]
    assert (check["verdict"]["label"], check["complete"], check["reason"]) == ("faithful", True, None)


@pytest.mark.parametrize("fails", ["open", "closed"])
def test_without_a_sidecar_answers_are_given_unless_the_guardrail_fails_closed(fails: str) -> None:
    expected = [SUPPORTED, UNSUPPORTED] if fails == "open" else [REFUSAL, REFUSAL]
    assert run("nemo_guardrails.py", nobody(), GUARDRAIL_FAILS=fails) == expected
    assert answers(run("langchain_runnable.py", nobody(), GUARDRAIL_FAILS=fails)) == expected


def answered(sidecars: Sidecars) -> dict[str, Any]:
    found: dict[str, Any] = sidecars.status()["checking"]["answered"]
    return found
