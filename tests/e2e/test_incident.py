"""A scripted incident, every process real: one prompt version of one service begins to make things up, and stops.

Who is on call gets one alert, which names the prompt version, over a webhook that is down when it is raised; and its
end. Nobody hears of the service that stayed as it was.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from monitor.alerts.webhook import signature
from monitor.domain.alert import Alert, AlertState
from monitor.domain.trace import Document, Trace
from monitor.embedded.replay import Replay
from monitor.embedded.stack import Stack, StackPlan
from monitor.storage.accounting import accounting
from monitor.storage.alerts import find_alerts
from monitor.storage.engine import LedgerEngine, create_ledger_engine
from tests.examples.alerts import KEYS, subscribed
from tests.support.receivers import Receiver, address_of, bound, serving

PER_MINUTE = 20
QUIET, INCIDENT, AFTER = 2500, 1200, 3500
"""Traces of each service: before, while v7 of `desk` hallucinates twice as often, and after it was rolled back."""

DOWN_SECONDS = 30.0
DEADLINE = 120.0
SECRET = "s3cret"
SERVICES = ("desk", "library")
BEGIN = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=12)

OVERRIDES = {
    # One partition keeps the order in which they were asked, however fast they are sent.
    "kafka": {"partitions": 1},
    "drift": {"baseline_verdicts": 1000, "poll_seconds": 0.5, "dimensions": ["prompt_version", "language"]},
    "alerts": {
        "allow_private_targets": True,
        "encryption_keys": list(KEYS),
        "poll_seconds": 0.2,
        "deadline_seconds": 5,
    },
    "policy": {"audit_share": 0.0, "escalate_unsure_share": 0.0},
}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    tmp_path.chmod(0o755)
    with Stack(StackPlan(directory=tmp_path / "stack", gguf=None, overrides=OVERRIDES), print) as running:
        yield running


@pytest.fixture
def engine(stack: Stack) -> Iterator[LedgerEngine]:
    engine = create_ledger_engine(stack.settings.postgres, application_name="test", pool_size=1)
    yield engine
    engine.dispose()


def made_up(draw: random.Random, number: int, service: str, version: str) -> bool:
    in_incident = QUIET <= number < QUIET + INCIDENT
    return draw.random() < (0.3 if in_incident and (service, version) == ("desk", "v7") else 0.15)


def traffic(first: int, count: int) -> list[Trace]:
    """Both services, side by side; every other answer comes from prompt version v7."""
    traces = []
    for number in range(first, first + count):
        for service in SERVICES:
            draw = random.Random(f"{service}{number}")
            version = "v7" if draw.random() < 0.5 else "v6"
            wrong = made_up(draw, number, service, version)
            traces.append(
                Trace(
                    trace_id=f"{service}-{number}",
                    event_time=BEGIN + timedelta(seconds=number * 60 / PER_MINUTE),
                    tenant="city",
                    service=service,
                    environment="test",
                    question="When is the pool open?",
                    documents=(Document(id="a", text="The pool is open on Sundays from nine to five. No dogs."),),
                    answer="The museum of Oslo sells 4711 green elephants."
                    if wrong
                    else "The pool is open on Sundays.",
                    prompt_version=version,
                    tags={"language": draw.choice(("en", "de"))},
                )
            )
    return traces


def send(stack: Stack, engine: LedgerEngine, traces: list[Trace]) -> None:
    """Send and wait until the ledger has accounted for all of it."""
    before = accounting(engine).accepted
    replay = Replay(stack.sidecar_url, traces, rate=None)
    replay.run(threading.Event())
    replay.raise_failure()
    until(stack, lambda: (now := accounting(engine)).accepted >= before + len(traces) and now.in_flight == 0)


def until(stack: Stack, reached: Callable[[], object], *, seconds: float = DEADLINE) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        stack.check()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def folded(engine: LedgerEngine) -> bool:
    """Whether drift detection has seen all minutes but the last of each service."""
    with engine.connect() as connection:
        open_ones = text("select count(*) from rollups where folded_total is null")
        return int(connection.execute(open_ones).scalar_one()) <= 2 * len(SERVICES)


def of(receiver: Receiver, alert: Alert, state: AlertState) -> list[dict[str, str]]:
    """The headers of the deliveries that say so."""
    said = [(headers, json.loads(body)) for headers, body in receiver.taken]
    return [headers for headers, body in said if (body["alert_id"], body["state"]) == (alert.alert_id, state)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_prompt_version_goes_wrong_and_is_rolled_back(stack: Stack, engine: LedgerEngine) -> None:
    receiver, listener = Receiver(), bound()
    subscribed(engine, url=f"{address_of(listener)}/hook", secret=SECRET)
    send(stack, engine, traffic(0, QUIET))
    until(stack, lambda: folded(engine))
    assert find_alerts(engine) == []

    send(stack, engine, traffic(QUIET, INCIDENT))
    until(stack, lambda: find_alerts(engine))
    down_until = time.monotonic() + DOWN_SECONDS
    until(stack, lambda: find_alerts(engine)[0].explanation.causes)
    (alert,) = find_alerts(engine)
    assert (str(alert.segment), alert.state) == ("city/desk/test", AlertState.FIRING)
    changed = BEGIN + timedelta(seconds=QUIET * 60 / PER_MINUTE)
    assert abs(alert.alarm.change_at - changed) < timedelta(minutes=20)
    assert [(cause.dimension, cause.value) for cause in alert.explanation.causes] == [("prompt_version", "v7")]

    time.sleep(max(0.0, down_until - time.monotonic()))
    with serving(receiver, listener):
        until(stack, lambda: of(receiver, alert, AlertState.FIRING))
        send(stack, engine, traffic(QUIET + INCIDENT, AFTER))
        until(stack, lambda: folded(engine))
        until(stack, lambda: find_alerts(engine)[0].state is AlertState.RESOLVED)
        until(stack, lambda: of(receiver, alert, AlertState.RESOLVED))
        until(stack, lambda: undelivered(engine) == 0)
    assert [one.alert_id for one in find_alerts(engine)] == [alert.alert_id]
    assert len(receiver.taken) == 2
    for headers, body in receiver.taken:
        signed = signature(SECRET, headers["x-groundwatch-timestamp"], body)
        assert headers["x-groundwatch-signature"] == signed
    assert len(of(receiver, alert, AlertState.FIRING)) == 1


def undelivered(engine: LedgerEngine) -> int:
    with engine.connect() as connection:
        return int(
            connection.execute(text("select count(*) from outbox where state in ('waiting', 'dead')")).scalar_one()
        )
