import signal
import subprocess
import sys
import time

import pytest

from monitor.services.stopping import StopOnSignals, stopping_on_signals

SCRIPT = """
import sys
from monitor.services.stopping import StopOnSignals
stop = StopOnSignals()
print("ready", flush=True)
while not stop.wait(0.5):
    pass
print("stopped", flush=True)
"""


def test_a_storm_of_signals_stops_a_process_once_and_cleanly() -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
            time.sleep(0.001)
        assert process.stdout.read() == "stopped\n"


def test_it_rests_as_long_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    stop = StopOnSignals()
    assert stop.wait(0.01) is False
    assert stop.exit_code == 0
    stop._hear(signal.SIGTERM, None)
    assert stop.wait(60.0) is True
    assert stop.is_set()
    assert stop.exit_code == 143


def test_signals_do_afterwards_what_they_did_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping_on_signals() as stopping:
        signal.raise_signal(signal.SIGTERM)
        assert stopping.is_set()
    assert signal.getsignal(signal.SIGTERM) is before
