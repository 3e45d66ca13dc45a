"""The drift and the alert worker killed in mid-work: no minute folded twice, every alert raised once and delivered.

Where a kill finds a worker is not left to chance: a lock in Postgres holds it at one statement of a transaction, or
a receiver does not answer. It is killed there, and only then the lock is released.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from monitor.config import AlertSettings, DriftSettings, KafkaSettings, PostgresSettings, Settings
from monitor.domain.alert import Alarm
from monitor.domain.verdict import Assessment
from monitor.embedded.processes import Child
from monitor.services.drift import DriftWatch
from monitor.storage.alerts import find_alerts
from monitor.storage.drift_store import load_states
from monitor.storage.ledger import Ledger
from monitor.telemetry.setup import setup_telemetry
from tests.examples.alerts import KEYS, subscribed
from tests.examples.assessments import assessment
from tests.support.pipeline import DEADLINE, Pipeline
from tests.support.topic_reader import read_all
from tests.support.webhooks import HoldingReceiver

PER_MINUTE = 12
QUIET_MINUTES, RISEN_MINUTES = 40, 20
# One verdict in so many is a hallucination, before and after. Detectors are saved in the order of these names.
SERVICES = {"desk": (10, 10), "library": (10, 2), "museum": (10, 10), "zoo": (10, 2)}
RISEN = 2


@pytest.fixture
def settings(kafka_settings: KafkaSettings, postgres_url: str) -> Settings:
    return Settings(
        kafka=kafka_settings,
        postgres=PostgresSettings(url=SecretStr(postgres_url)),
        drift=DriftSettings(baseline_verdicts=300, allowed_lateness_seconds=0, poll_seconds=0.1),
        # A receiver is made to wait below: no attempt ends by itself meanwhile.
        alerts=AlertSettings(
            allow_private_targets=True, encryption_keys=KEYS, deadline_seconds=DEADLINE, poll_seconds=0.1
        ),
    )


def test_a_drift_worker_killed_in_mid_fold(line: Pipeline, engine: Engine) -> None:
    ledger = Ledger(engine)
    ledger.record(quiet())
    worker = line.start("drift")
    with held(engine, worker, "select 1 from rollups where service = 'library' for update"):
        worker.kill()
    assert folded(engine) == {"desk"}

    worker = line.start("drift")
    worker.wait_until(lambda: folded(engine) == set(SERVICES), deadline_seconds=DEADLINE)
    with held(engine, worker, "lock table outbox in exclusive mode", before_waiting=lambda: ledger.record(risen())):
        worker.kill()
    assert find_alerts(engine) == []

    for table in ("drift_states", "rollups", "alerts"):
        worker = line.start("drift")
        with held(engine, worker, f"lock table {table} in exclusive mode"):
            worker.kill()
        assert find_alerts(engine) == []
    worker = line.start("drift")
    with held(engine, worker, "select 1 from rollups where service = 'zoo' for update"):
        worker.kill()
    assert len(find_alerts(engine)) == 1

    worker = line.start("drift")
    worker.wait_until(lambda: unfolded(engine) == 0, deadline_seconds=DEADLINE)
    assert worker.stop() == 0
    raised, states = alarms(engine), load_states(engine)
    assert len(raised) == RISEN
    assert count(engine, "select count(*) from outbox") == RISEN
    assert count(engine, "select count(*) from rollups where folded_total <> first_total") == 0

    forget_all_folding(engine)
    watch(engine, line.settings)
    assert (alarms(engine), load_states(engine)) == (raised, states)


def test_an_alert_worker_killed_in_mid_delivery(line: Pipeline, engine: Engine) -> None:
    with HoldingReceiver.serving() as receiver:
        for _ in range(3):
            subscribed(engine, tenant="city", url=receiver.url)
        Ledger(engine).record(quiet() + risen())
        watch(engine, line.settings)
        assert count(engine, "select count(*) from outbox") == RISEN * 4

        # While it claims.
        worker = line.start("alerts")
        with held(engine, worker, "lock table outbox in exclusive mode"):
            worker.kill()
        assert count(engine, "select max(attempts) from outbox") == 0

        # The receivers have it, and have not said so.
        receiver.answering.clear()
        worker = line.start("alerts")
        worker.wait_until(lambda: len(receiver.taken) == RISEN * 3, deadline_seconds=DEADLINE)
        worker.kill()
        gone(engine, "alerts")
        end_leases(engine)

        # A receiver said so, and the worker has not kept it: of two statements that wait, one at most is a claim.
        worker = line.start("alerts")
        on_its_way = "select count(*) from outbox where channel = 'kafka' and state <> 'delivered'"
        worker.wait_until(
            lambda: len(receiver.taken) == RISEN * 6 and count(engine, on_its_way) == 0, deadline_seconds=DEADLINE
        )
        outbox = "lock table outbox in exclusive mode"
        with held(engine, worker, outbox, before_waiting=receiver.answering.set, statements=2):
            worker.kill()
        assert count(engine, "select count(*) from outbox where channel = 'webhook' and state <> 'waiting'") == 0
        end_leases(engine)

        worker = line.start("alerts")
        undelivered = "select count(*) from outbox where state <> 'delivered'"
        worker.wait_until(lambda: count(engine, undelivered) == 0, deadline_seconds=DEADLINE)
        assert worker.stop() == 0

    with engine.connect() as connection:
        webhooks = connection.execute(text("select id, alert_id from outbox where channel = 'webhook'")).all()
    taken = [(headers["x-groundwatch-delivery"], json.loads(body)["alert_id"]) for headers, body in receiver.taken]
    assert sorted(taken) == sorted([(str(row.id), row.alert_id) for row in webhooks] * 3)
    topic = line.settings.kafka.alerts_topic
    on_kafka = [json.loads(value)["alert_id"] for value in read_all(line.settings.kafka, topic)]
    assert set(on_kafka) == set(alarms(engine))


def quiet() -> list[Assessment]:
    """Verdicts before the rise, by service, one at each place of its partition."""
    return _verdicts(0, QUIET_MINUTES * PER_MINUTE, 0)


def risen() -> list[Assessment]:
    """What follows, up to the first verdict of a minute that stays open."""
    first = QUIET_MINUTES * PER_MINUTE
    return _verdicts(first, first + RISEN_MINUTES * PER_MINUTE + 1, 1)


def _verdicts(first: int, end: int, stretch: int) -> list[Assessment]:
    return [
        assessment(
            index,
            probability=0.9 if index % every[stretch] == 0 else 0.1,
            seconds_past_noon=index * 60 / PER_MINUTE,
            partition=partition,
            service=service,
        )
        for partition, (service, every) in enumerate(SERVICES.items())
        for index in range(first, end)
    ]


@contextmanager
def held(
    engine: Engine,
    worker: Child,
    lock: str,
    *,
    before_waiting: Callable[[], object] = lambda: None,
    statements: int = 1,
) -> Iterator[None]:
    """Lock, and enter once so many of the worker's statements wait for that.

    The worker is to be killed inside: its connections are gone when this is left.
    """
    with engine.connect() as connection:
        connection.execute(text(lock))
        before_waiting()
        worker.wait_until(lambda: waiting(engine, worker.name) >= statements, deadline_seconds=DEADLINE)
        yield
    gone(engine, worker.name)


def waiting(engine: Engine, name: str) -> int:
    """How many of a worker's statements wait for a lock."""
    return _connections(engine, name, "and wait_event_type = 'Lock'")


def gone(engine: Engine, name: str) -> None:
    """Wait until Postgres has noticed that a worker is dead and has undone what it left half done."""
    deadline = time.monotonic() + DEADLINE
    while _connections(engine, name):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _connections(engine: Engine, name: str, which: str = "") -> int:
    of_worker = f"datname = current_database() and application_name = 'groundwatch-{name}'"
    return count(engine, f"select count(*) from pg_stat_activity where {of_worker} {which}")


def count(engine: Engine, query: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def folded(engine: Engine) -> set[str]:
    """Services with a detector."""
    return {key.segment.service for key in load_states(engine)}


def unfolded(engine: Engine) -> int:
    """Minutes that wait, the open one of each service left out."""
    return count(engine, "select count(*) from rollups where folded_total is null") - len(SERVICES)


def alarms(engine: Engine) -> dict[str, Alarm]:
    """What was raised, by the alert's id: all but the time at which it was."""
    return {alert.alert_id: alert.alarm for alert in find_alerts(engine)}


def watch(engine: Engine, settings: Settings) -> None:
    """Fold all that can be folded, in this process, with none to kill it."""
    telemetry = setup_telemetry(settings.telemetry, "test")
    DriftWatch(engine, settings.drift, telemetry, alerts=settings.alerts, clock=lambda: datetime.now(UTC)).step()
    telemetry.shutdown()


def forget_all_folding(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("truncate drift_states, alerts, outbox cascade"))
        connection.execute(text("update rollups set folded_total = null, folded_hallucinated = null"))


def end_leases(engine: Engine) -> None:
    """What time does by itself: whoever claimed a delivery has it no longer."""
    with engine.begin() as connection:
        connection.execute(text("update outbox set next_at = now() where state = 'waiting'"))
