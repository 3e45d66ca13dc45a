"""From verdicts in a ledger to an alert in the hands of those who subscribed: real Postgres, broker and receivers."""

import asyncio
import hashlib
import hmac
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, delete, func, insert, select, update

from monitor.alerts.sealing import Destination, Sealer, new_key
from monitor.alerts.services import Services
from monitor.alerts.webhook import MAX_ANSWER_BYTES, Webhook, signature
from monitor.config import AlertSettings, DriftSettings, KafkaSettings
from monitor.domain.alert import Alert, AlertState
from monitor.domain.errors import LedgerUnavailable
from monitor.domain.explanation import Explanation
from monitor.drift.detector import RateDetector
from monitor.drift.seasons import Seasons
from monitor.outbound import AsyncHttpClient
from monitor.services.alerts import AlertDelivery
from monitor.services.drift import DriftWatch, Watched
from monitor.services.run_lengths import RunLengths
from monitor.storage.alerts import find_alerts
from monitor.storage.closed_minutes import closed_minutes
from monitor.storage.drift_store import load_states
from monitor.storage.engine import transaction
from monitor.storage.ledger import Ledger
from monitor.storage.live_segments import live_segments
from monitor.storage.outbox import find_deliveries
from monitor.storage.subscriptions import find_subscriptions, subscribe
from monitor.storage.tables import alerts, drift_states, outbox, rollups, subscriptions
from monitor.streaming.producer import Producer
from tests.examples.alerts import KEYS, subscribed
from tests.examples.assessments import NOON, assessment
from tests.support.heard import Heard
from tests.support.receivers import Receiver, address_of, bound, serving
from tests.support.topic_reader import read_all
from tests.support.webhooks import HoldingReceiver

DRIFT = DriftSettings(baseline_verdicts=300, allowed_lateness_seconds=0)
ALERTS = AlertSettings(allow_private_targets=True, encryption_keys=KEYS, deadline_seconds=20, poll_seconds=0.05)
PER_MINUTE = 20


def clock() -> datetime:
    return NOON + timedelta(days=1)


def verdicts(*stretches: tuple[int, float], service: str = "help-desk", first: int = 0) -> list[Any]:
    """Twenty verdicts a minute, hallucinated at each stretch's rate; one more event closes the last minute."""
    rng = random.Random(f"{service}{first}")
    labels = [rng.random() < rate for minutes, rate in stretches for _ in range(minutes * PER_MINUTE)]
    partition = int.from_bytes(service.encode(), "big") % 1000
    made = [
        assessment(
            first + index,
            probability=0.9 if label else 0.1,
            seconds_past_noon=(first + index) * 60 / PER_MINUTE,
            partition=partition,
            service=service,
        )
        for index, label in enumerate(labels)
    ]
    end = first + len(labels)
    return [
        *made,
        assessment(end, probability=0.1, seconds_past_noon=end * 60 / PER_MINUTE, partition=partition, service=service),
    ]


def watch(
    engine: Engine, heard: Heard | None = None, settings: DriftSettings = DRIFT, *, pool: bool = False
) -> DriftWatch:
    return DriftWatch(engine, settings, (heard or Heard()).telemetry, alerts=ALERTS, clock=clock, pool=pool)


def unexplained(found: Sequence[Alert]) -> list[Alert]:
    """The same alerts without what was found out later: how often that was looked for depends on the worker's pace."""
    return [replace(alert, explanation=Explanation()) for alert in found]


QUIET_THEN_RISE = ((60, 0.1), (30, 0.4))


@pytest.fixture
def risen(engine: Engine, ledger: Ledger) -> None:
    ledger.record(verdicts(*QUIET_THEN_RISE))
    ledger.record(verdicts((90, 0.1), service="other"))


# Drift: minutes to alerts.


def test_a_rate_that_comes_back_resolves_its_alert(engine: Engine, ledger: Ledger) -> None:
    ledger.record(verdicts((60, 0.1), (20, 0.4), (60, 0.1)))
    heard = Heard()
    raised, resolved = watch(engine, heard).step().alerts
    assert raised.alert_id == resolved.alert_id
    assert (raised.state, resolved.state) == (AlertState.FIRING, AlertState.RESOLVED)
    assert find_alerts(engine) == [resolved]
    assert [value for _, value in heard.metrics()["groundwatch.alerts"]] == [1]
    assert len(heard.events.get_finished_logs()) == 2


def test_a_rate_that_rises_in_steps_is_one_alert(engine: Engine, ledger: Ledger) -> None:
    ledger.record(verdicts((60, 0.1), (40, 0.35), (30, 0.8)))
    heard = Heard()
    first, again = watch(engine, heard).step().alerts
    assert (first.alert_id, first.state) == (again.alert_id, AlertState.FIRING)
    assert again.alarm.rate_after > first.alarm.rate_after
    assert unexplained(find_alerts(engine)) == unexplained([again])
    assert [value for _, value in heard.metrics()["groundwatch.alerts"]] == [1]


def test_a_rate_that_comes_and_goes_is_the_same_alerts_however_often_the_worker_looks(
    engine: Engine, ledger: Ledger
) -> None:
    everything = verdicts((60, 0.1), (20, 0.4), (30, 0.1), (20, 0.4), (30, 0.1))
    for start in range(0, len(everything) - 1, 7 * PER_MINUTE):
        ledger.record(everything[start : start + 7 * PER_MINUTE + 1])
        watch(engine).step()
    (piecewise,) = find_alerts(engine)
    assert (piecewise.state, piecewise.reopened) == (AlertState.RESOLVED, 1)
    with transaction(engine) as connection:
        connection.execute(delete(drift_states))
        connection.execute(delete(alerts))
        connection.execute(update(rollups).values(folded_total=None, folded_hallucinated=None))
    watch(engine).step()
    assert unexplained(find_alerts(engine)) == unexplained([piecewise])


def test_other_seasons_begin_a_new_baseline_that_spans_them(engine: Engine, ledger: Ledger) -> None:
    ledger.record(verdicts((60, 0.1)))
    watch(engine).step()
    daily = DRIFT.model_copy(update={"seasons": Seasons.DAILY})
    ledger.record(verdicts((30, 0.4), first=60 * PER_MINUTE + 1))
    assert watch(engine, settings=daily).step().alerts == ()
    (kept,) = load_states(engine).values()
    detector = RateDetector.from_state(dict(kept.state))
    assert (detector.seasons, detector.baseline_rate) == (Seasons.DAILY, None)


def test_a_detector_of_another_release_begins_anew(engine: Engine, ledger: Ledger) -> None:
    ledger.record(verdicts((30, 0.1)))
    watch(engine).step()
    with transaction(engine) as connection:
        connection.execute(update(drift_states).values(state={"format": 1}))
    ledger.record(verdicts((60, 0.1), (30, 0.4), first=30 * PER_MINUTE + 1))
    (alert,) = watch(engine).step().alerts
    assert alert.state is AlertState.FIRING


def test_a_rise_becomes_one_alert_with_event_and_metrics(engine: Engine, risen: None) -> None:
    heard = Heard()
    report = watch(engine, heard).step()
    (alert,) = report.alerts
    assert (report.minutes, report.verdicts) == (180, 3600)
    assert [found.alert_id for found in find_alerts(engine)] == [alert.alert_id]
    assert (alert.segment.service, alert.state, alert.raised_at) == ("help-desk", AlertState.FIRING, clock())
    alarm = alert.alarm
    assert timedelta(minutes=60) <= alarm.event_time - NOON <= timedelta(minutes=66)
    assert abs(alarm.change_at - NOON - timedelta(minutes=60)) <= timedelta(minutes=3)
    assert alarm.rate_before == pytest.approx(0.1, abs=0.04)
    assert alarm.rate_after == pytest.approx(0.4, abs=0.15)

    (event,) = heard.events.get_finished_logs()
    assert event.log_record.event_name == "groundwatch.alert.transition"
    assert event.log_record.attributes["groundwatch.alert.id"] == alert.alert_id
    metrics = heard.metrics()
    assert [value for _, value in metrics["groundwatch.alerts"]] == [1]
    evidence, threshold = (
        {attributes["groundwatch.service"]: value for attributes, value in metrics[f"groundwatch.drift.{name}"]}
        for name in ("evidence", "threshold")
    )
    assert set(evidence) == {"help-desk", "other"}
    assert threshold["other"] == pytest.approx(math.log(alert.average_run_length))
    assert evidence["other"] < threshold["other"]


def test_nothing_is_folded_twice(engine: Engine, risen: None) -> None:
    first = watch(engine)
    assert len(first.step().alerts) == 1
    assert first.step() == Watched()
    assert watch(engine).step() == Watched()
    assert len(find_alerts(engine)) == 1


def test_folding_minute_by_minute_across_restarts_gives_the_same_alert(engine: Engine, ledger: Ledger) -> None:
    everything = verdicts(*QUIET_THEN_RISE)
    straight = RateDetector(average_run_length=DRIFT.average_run_length, baseline_verdicts=DRIFT.baseline_verdicts)
    expected = []
    alerts = []
    for start in range(0, len(everything) - 1, 7 * PER_MINUTE):
        ledger.record(everything[start : start + 7 * PER_MINUTE + 1])
        (closed,) = closed_minutes(engine, lateness=timedelta(0)).values()
        expected += [straight.fold(minute.minute, minute.total, minute.hallucinated) for minute in closed]
        alerts += watch(engine).step().alerts
    assert [alert.alarm for alert in alerts] == [alarm for alarm in expected if alarm is not None]
    assert len(alerts) == 1


def test_of_two_workers_on_one_ledger_one_folds_each_minute(engine: Engine, ledger: Ledger) -> None:
    ledger.record(verdicts((60, 0.1)))
    first, second = watch(engine), watch(engine)
    assert (first.step().minutes, second.step().minutes) == (60, 0)
    ledger.record(verdicts((30, 0.4), first=60 * PER_MINUTE + 1))
    # The second remembers nothing of what the first has folded: it finds out, and goes on from there.
    with ThreadPoolExecutor(2) as threads:
        reports = list(threads.map(DriftWatch.step, (first, second)))
    reports += [first.step(), second.step()]
    assert sum(len(report.alerts) for report in reports) == 1
    assert sum(report.minutes for report in reports) == 30
    assert len(find_alerts(engine)) == 1


def test_a_fold_that_cannot_be_saved_is_done_again(
    engine: Engine, risen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = watch(engine)
    with monkeypatch.context() as patched:
        # Everything up to the commit is real; what fails is the connection, at the worst moment.
        patched.setattr("monitor.storage.drift_store._mark_folded", _lose_the_connection)
        with pytest.raises(LedgerUnavailable):
            watching.step()
    assert (find_alerts(engine), load_states(engine)) == ([], {})
    assert len(watching.step().alerts) == 1


def _lose_the_connection(*_: Any) -> None:
    raise LedgerUnavailable("the server closed the connection unexpectedly")


def test_late_verdicts_are_counted_and_move_nothing(engine: Engine, ledger: Ledger) -> None:
    heard = Heard()
    watching = watch(engine, heard)
    ledger.record(verdicts((40, 0.1)))
    watching.step()
    (kept,) = load_states(engine).values()
    late = [assessment(50_000 + index, probability=0.9, seconds_past_noon=60) for index in range(500)]
    ledger.record(late)
    for _ in range(12):
        watching.step()
    assert list(load_states(engine).values()) == [kept]
    assert [value for _, value in heard.metrics()["groundwatch.drift.late_verdicts"]] == [500]


def test_changed_settings_begin_a_new_baseline(engine: Engine, ledger: Ledger) -> None:
    ledger.record(verdicts((60, 0.1)))
    watch(engine).step()
    ledger.record(verdicts((30, 0.4), first=60 * PER_MINUTE + 1))
    changed = DRIFT.model_copy(update={"baseline_verdicts": 400})
    assert watch(engine, settings=changed).step().alerts == ()
    (kept,) = load_states(engine).values()
    assert kept.state["seen"] == 30 * PER_MINUTE


def test_another_run_length_goes_on_with_the_baseline(engine: Engine, ledger: Ledger) -> None:
    ledger.record(verdicts((60, 0.1)))
    watch(engine).step()
    ledger.record(verdicts((30, 0.4), first=60 * PER_MINUTE + 1))
    changed = DRIFT.model_copy(update={"average_run_length": 10_000.0, "watched_slices": 0})
    (alert,) = watch(engine, settings=changed).step().alerts
    assert alert.average_run_length == 10_000.0


def test_live_segments_share_the_budget(engine: Engine, ledger: Ledger) -> None:
    """Three segments are live until 15:00, one of them goes on: what an hour is told of ended an hour before."""
    for service in ("a", "b", "c"):
        ledger.record(verdicts((180, 0.1), service=service))
    ledger.record(verdicts((180, 0.1), (30, 0.6), service="a", first=180 * PER_MINUTE + 1))
    hours = [live_segments(engine, NOON + timedelta(hours=hour)) for hour in (0, 1, 2, 3, 27, 28, 29, 30, 31, 32)]
    assert hours == [0, 0, 3, 3, 3, 3, 1, 1, 1, 0]
    (alert,) = watch(engine, settings=DRIFT.model_copy(update={"watched_slices": 0})).step().alerts
    assert alert.segment.service == "a"
    assert alert.average_run_length == 3 * DRIFT.average_run_length


def test_slices_get_half_of_the_budget(engine: Engine) -> None:
    both = RunLengths(engine, budget=1000, dimensions=3).at(NOON)
    assert (both.segment, both.slice) == (2000, 6000)
    alone = RunLengths(engine, budget=1000).at(NOON)
    assert alone.segment == 1000


# Delivery: alerts to subscribers.


@pytest.fixture
def producer(kafka_settings: KafkaSettings) -> Iterator[Producer]:
    producer = Producer(kafka_settings)
    yield producer
    producer.close()


@pytest.fixture
def deliver(engine: Engine, producer: Producer, kafka_settings: KafkaSettings) -> Callable[..., Heard]:
    """Runs a delivery worker until a condition on the outbox holds, or fails after 60 s."""

    def run(until: Callable[[dict[str, str]], bool], settings: AlertSettings = ALERTS) -> Heard:
        heard = Heard()
        asyncio.run(
            _deliver(
                engine=engine,
                producer=producer,
                topic=kafka_settings.alerts_topic,
                settings=settings,
                heard=heard,
                until=until,
            )
        )
        return heard

    return run


async def _deliver(
    *,
    engine: Engine,
    producer: Producer,
    topic: str,
    settings: AlertSettings,
    heard: Heard,
    until: Callable[[dict[str, str]], bool],
) -> None:
    stop = asyncio.Event()
    async with AsyncHttpClient(
        deadline_seconds=settings.deadline_seconds, max_answer_bytes=MAX_ANSWER_BYTES, reuse_connections=False
    ) as client:
        webhook = Webhook(
            client, allow_private=settings.allow_private_targets, deadline_seconds=settings.deadline_seconds
        )
        delivery = AlertDelivery(
            engine=engine,
            producer=producer,
            webhook=webhook,
            services=Services(allow_private=settings.allow_private_targets, deadline_seconds=settings.deadline_seconds),
            topic=topic,
            settings=settings,
            instruments=heard.telemetry.instruments,
            clock=clock,
        )
        worker = asyncio.create_task(delivery.run(stop))
        async with asyncio.timeout(60):
            while not until(await asyncio.to_thread(outcomes, engine)):
                await asyncio.wait([worker], timeout=0.05)
        stop.set()
        await worker


def outcomes(engine: Engine) -> dict[str, str]:
    """State by subscription (or `kafka`)."""
    with transaction(engine) as connection:
        return {row.subscription_id or row.channel: row.state for row in connection.execute(select(outbox))}


def settled(states: dict[str, str]) -> bool:
    return "waiting" not in states.values()


def test_people_read_of_an_alert_by_a_service(engine: Engine, ledger: Ledger, deliver: Callable[..., Heard]) -> None:
    with HoldingReceiver.serving(200) as chat:
        url = f"mmost://127.0.0.1:{chat.server_address[1]}/3ccdd113474722377935511fc85d3dd4"
        by_chat = subscribed(engine, tenant="city", url=url)
        to_nobody = subscribed(engine, tenant="city", url="mmost://127.0.0.1/")
        ledger.record(verdicts(*QUIET_THEN_RISE))
        (alert,) = watch(engine).step().alerts
        deliver(settled)
    states = outcomes(engine)
    assert (states[by_chat.subscription_id], states[to_nobody.subscription_id]) == ("delivered", "dead")
    ((_, body),) = chat.taken
    assert f"drift explain {alert.alert_id}" in body.decode()
    shown = {one.shown: one.error for one in find_deliveries(engine)}
    assert shown.keys() == {"kafka", "mmost://127.0.0.1/…"}
    assert "3ccdd113" not in str(shown)


def test_an_alert_reaches_kafka_and_its_webhook_signed(
    engine: Engine, ledger: Ledger, kafka_settings: KafkaSettings, deliver: Callable[..., Heard]
) -> None:
    receiver = Receiver()
    with serving(receiver) as address:
        subscribed(engine, tenant="city", url=f"{address}/hook", secret="s3cret")
        subscribed(engine, tenant="village", url=f"{address}/hook")
        ledger.record(verdicts(*QUIET_THEN_RISE))
        (alert,) = watch(engine).step().alerts
        heard = deliver(settled)
    ((headers, body),) = receiver.taken
    message = json.loads(body)
    assert (message["schema"], message["alert_id"], message["state"]) == ("alert.v1", alert.alert_id, "firing")
    timestamp = headers["x-groundwatch-timestamp"]
    expected = hmac.new(b"s3cret", f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["x-groundwatch-signature"] == f"v1={expected}" == signature("s3cret", timestamp, body)
    assert [json.loads(value) for value in read_all(kafka_settings, kafka_settings.alerts_topic)] == [message]
    counted = {
        (attributes["groundwatch.channel"], attributes["groundwatch.outcome"]): value
        for attributes, value in heard.metrics()["groundwatch.alert.deliveries"]
    }
    assert counted == {("kafka", "delivered"): 1, ("webhook", "delivered"): 1}


def test_a_receiver_that_was_down_gets_it_later_under_the_same_id(
    engine: Engine, ledger: Ledger, deliver: Callable[..., Heard]
) -> None:
    receiver = Receiver(answers=[503])
    listener = bound()
    subscription = subscribed(engine, tenant="city", url=f"{address_of(listener)}/hook").subscription_id
    ledger.record(verdicts(*QUIET_THEN_RISE))
    watch(engine).step()
    # Bound but not listening: connections are refused.
    deliver(lambda states: states["kafka"] == "delivered" and _attempts(engine, subscription) >= 1)
    assert outcomes(engine)[subscription] == "waiting"
    with serving(receiver, listener):
        deliver(settled)
    assert outcomes(engine)[subscription] == "delivered"
    assert len(receiver.taken) == 2
    assert len({headers["x-groundwatch-delivery"] for headers, _ in receiver.taken}) == 1


def test_what_an_earlier_release_kept_in_plain_text_is_delivered_and_sealed(
    engine: Engine, ledger: Ledger, deliver: Callable[..., Heard]
) -> None:
    receiver = Receiver()
    with serving(receiver) as address:
        row = {"subscription_id": "old", "tenant": "city", "url": f"{address}/hook", "secret": "s3cret"}
        with transaction(engine) as connection:
            connection.execute(insert(subscriptions).values(row))
        ledger.record(verdicts(*QUIET_THEN_RISE))
        watch(engine).step()
        deliver(settled)
    ((headers, _),) = receiver.taken
    assert "x-groundwatch-signature" in headers
    (kept,) = find_subscriptions(engine)
    assert kept.plain is None
    assert kept.sealed is not None
    assert Sealer(KEYS).open(kept.sealed) == Destination(url=f"{address}/hook", secret="s3cret")
    with transaction(engine) as connection:
        assert "s3cret" not in str(connection.execute(select(subscriptions)).all())


def test_a_destination_under_a_lost_key_fails_and_says_so(
    engine: Engine, ledger: Ledger, deliver: Callable[..., Heard]
) -> None:
    sealed = Sealer([SecretStr(new_key())]).seal(Destination(url="https://example.org/hook"))
    lost = subscribe(engine, tenant="city", shown="https://example.org/…", sealed=sealed).subscription_id
    ledger.record(verdicts(*QUIET_THEN_RISE))
    watch(engine).step()
    deliver(lambda states: states["kafka"] == "delivered" and _attempts(engine, lost) >= 1)
    with transaction(engine) as connection:
        error = connection.execute(select(outbox.c.last_error).where(outbox.c.subscription_id == lost)).scalar_one()
    assert error == "no key in alerts.encryption_keys opens this subscription's destination"


def _attempts(engine: Engine, subscription: str) -> int:
    with transaction(engine) as connection:
        query = select(func.coalesce(func.max(outbox.c.attempts), 0)).where(
            outbox.c.subscription_id == subscription, outbox.c.last_error.is_not(None)
        )
        return int(connection.execute(query).scalar_one())


def test_a_receiver_that_hangs_does_not_hold_up_the_others(
    engine: Engine, ledger: Ledger, deliver: Callable[..., Heard]
) -> None:
    receiver = Receiver()
    slow = ALERTS.model_copy(update={"deadline_seconds": 3.0, "max_attempts": 1})
    with serving(receiver) as address:
        hanging = subscribed(engine, tenant="city", url=f"{address}/hang").subscription_id
        good = subscribed(engine, tenant="city", url=f"{address}/hook").subscription_id
        ledger.record(verdicts(*QUIET_THEN_RISE))
        watch(engine).step()
        seen: list[dict[str, str]] = []
        deliver(lambda states: seen.append(states) or settled(states), slow)
    assert {hanging: "waiting", good: "delivered", "kafka": "delivered"} in seen
    assert seen[-1][hanging] == "dead"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1:9/hook", "not a public address"),
        ("http://169.254.169.254/latest/meta-data", "not a public address"),
        ("http://[::1]/", "not a public address"),
        ("http://localhost/hook", "not a public address"),
        ("ftp://example.org/", "no service"),
    ],
)
def test_a_target_that_is_not_allowed_is_dead_at_once(
    url: str, problem: str, engine: Engine, ledger: Ledger, deliver: Callable[..., Heard]
) -> None:
    subscription = subscribed(engine, tenant="city", url=url).subscription_id
    ledger.record(verdicts(*QUIET_THEN_RISE))
    watch(engine).step()
    deliver(settled, ALERTS.model_copy(update={"allow_private_targets": False}))
    with transaction(engine) as connection:
        row = connection.execute(select(outbox).where(outbox.c.subscription_id == subscription)).one()
    assert (row.state, row.attempts) == ("dead", 1)
    assert problem in row.last_error
    assert outcomes(engine)["kafka"] == "delivered"


def test_it_is_given_up_after_the_last_attempt(engine: Engine, ledger: Ledger, deliver: Callable[..., Heard]) -> None:
    receiver = Receiver(answers=[500] * 10)
    with serving(receiver) as address:
        subscription = subscribed(engine, tenant="city", url=f"{address}/hook").subscription_id
        ledger.record(verdicts(*QUIET_THEN_RISE))
        watch(engine).step()
        deliver(settled, ALERTS.model_copy(update={"max_attempts": 2}))
    assert outcomes(engine)[subscription] == "dead"
    assert len(receiver.taken) == 2


def test_what_was_not_foreseen_is_a_failed_attempt_and_is_logged(
    engine: Engine, ledger: Ledger, deliver: Callable[..., Heard], caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver()
    with serving(receiver) as address:
        good = subscribed(engine, tenant="city", url=f"{address}/hook").subscription_id
        ledger.record(verdicts(*QUIET_THEN_RISE))
        watch(engine).step()
        with transaction(engine) as connection:
            connection.execute(update(outbox).where(outbox.c.channel == "kafka").values(payload={"schema": "alert.v0"}))
        deliver(settled, ALERTS.model_copy(update={"max_attempts": 2}))
    assert outcomes(engine) == {"kafka": "dead", good: "delivered"}
    with transaction(engine) as connection:
        row = connection.execute(select(outbox).where(outbox.c.channel == "kafka")).one()
    assert (row.attempts, row.last_error) == (2, "KeyError: 'segment'")
    tracebacks = [record for record in caplog.records if record.exc_info and record.exc_info[0] is KeyError]
    assert len(tracebacks) == 2
