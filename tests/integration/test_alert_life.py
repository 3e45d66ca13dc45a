"""The life of alerts on a real Postgres: alarms that belong together, silences, reminders, several workers at once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from monitor.domain.alert import Alert, AlertState, Severity
from monitor.domain.errors import InvalidInput
from monitor.services.tending import AlertTending
from monitor.storage.alarms import take_alarm
from monitor.storage.alerts import change_state, find_alerts, find_history, resolve_recovered
from monitor.storage.engine import transaction
from monitor.storage.outbox import claim_deliveries
from monitor.storage.silences import LONGEST, add_silence, end_silence, find_silences
from monitor.storage.tables import alerts, silences
from tests.examples.alerts import RULES, alert, subscribed
from tests.examples.assessments import NOON
from tests.support.heard import Heard

ANYWHERE = {"tenant": "city", "service": None, "environment": None}
HOUR = timedelta(hours=1)
PATIENT = replace(RULES, pending=600)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def rise(engine: Engine, name: str = "a-1", *, minutes: float = 0, after: float = 0.3, **other: Any) -> Alert:
    """An alarm so many minutes past noon of event time, kept as the drift worker keeps it."""
    rules = other.pop("rules", RULES)
    severity = Severity.CRITICAL if after >= 0.2 else Severity.WARNING
    at = NOON + timedelta(minutes=minutes)
    made = alert(name)
    state = AlertState.PENDING if rules.pending else AlertState.FIRING
    alarm = replace(made.alarm, event_time=at, rate_after=after)
    with transaction(engine) as connection:
        return take_alarm(
            connection, replace(made, alarm=alarm, severity=severity, state=state, raised_at=at, **other), rules
        )


def recover(engine: Engine, *, minutes: float) -> None:
    at = NOON + timedelta(minutes=minutes)
    like = replace(alert(), alarm=replace(alert().alarm, event_time=at))
    with transaction(engine) as connection:
        resolve_recovered(connection, like, at=at, note="back")


def tend(engine: Engine, heard: Heard, rules: Any = RULES) -> int:
    return AlertTending(engine, rules, heard.telemetry, pace=1).step()


def age(engine: Engine, seconds: float) -> None:
    """Let time pass for the alerts."""
    ago = timedelta(seconds=seconds)
    with transaction(engine) as connection:
        connection.execute(
            update(alerts).values(state_since=alerts.c.state_since - ago, told_at=alerts.c.told_at - ago)
        )


def sent(engine: Engine) -> list[tuple[str, str, str, bool]]:
    """What is new in the outbox: channel, state, notification, silenced."""
    return [
        (each.channel, each.payload["state"], each.payload["notification"], each.payload["silenced"])
        for each in claim_deliveries(engine, limit=99, lease_seconds=600)
    ]


def told(state: str, notification: str = "state") -> list[tuple[str, str, str, bool]]:
    return [("kafka", state, notification, False), ("webhook", state, notification, False)]


def silence(engine: Engine, *, hours: float = 2, **where: Any) -> str:
    now = datetime.now(UTC)
    made = add_silence(
        engine,
        **{**ANYWHERE, **where},
        starts_at=now - HOUR,
        ends_at=now - HOUR + hours * HOUR,
        reason="night",
        created_by="Ada",
        now=now - HOUR,
    )
    return made.silence_id


def steps(engine: Engine, name: str = "a-1") -> list[tuple[str | None, str, str]]:
    history = find_history(engine, name)
    assert history is not None
    return [(step.before, step.after, step.note) for step in history.transitions]


@pytest.fixture
def hook(engine: Engine) -> str:
    return subscribed(engine, url="https://example.org/hook").subscription_id


# Alarms that belong together.


def test_an_alarm_on_an_open_alert_belongs_to_it(engine: Engine, hook: str) -> None:
    rise(engine, "a-1", after=0.15)
    assert sent(engine) == told("firing")
    same = rise(engine, "a-2", minutes=90, after=0.18)
    assert (same.alert_id, same.alarm.rate_after, same.severity) == ("a-1", 0.18, Severity.WARNING)
    assert sent(engine) == []
    assert find_alerts(engine) == [same]
    assert steps(engine) == [
        (None, "pending", ""),
        ("pending", "firing", ""),
        ("firing", "firing", "rose again to 18.0%"),
    ]
    history = find_history(engine, "a-1")
    assert history is not None
    assert history.transitions[-1].evidence == alert().alarm.evidence


def test_an_alert_that_becomes_critical_reaches_those_who_listen_for_that(engine: Engine) -> None:
    subscribed(engine, url="https://example.org/hook", least_severity=Severity.CRITICAL)
    rise(engine, "a-1", after=0.15)
    change_state(engine, "a-1", AlertState.ACKNOWLEDGED, at=NOON, actor="Ada")
    assert {channel for channel, *_ in sent(engine)} == {"kafka"}
    assert rise(engine, "a-2", minutes=9, after=0.25).severity is Severity.CRITICAL
    assert sent(engine) == told("acknowledged")


def test_another_judge_version_has_alerts_of_its_own(engine: Engine) -> None:
    rise(engine, "a-1")
    assert rise(engine, "a-2", judge_version="cascade@000000000002").alert_id == "a-2"


def test_what_rises_again_soon_reopens_and_later_opens(engine: Engine, hook: str) -> None:
    rise(engine, "a-1")
    recover(engine, minutes=30)
    back = rise(engine, "a-2", minutes=90, after=0.4)
    assert (back.alert_id, back.state, back.reopened, back.alarm.rate_after) == ("a-1", AlertState.FIRING, 1, 0.4)
    assert sent(engine) == [*told("firing"), *told("resolved"), *told("firing")]
    assert steps(engine)[-1] == ("resolved", "firing", "rose again to 40.0%, soon after it was resolved")
    recover(engine, minutes=100)
    new = rise(engine, "a-3", minutes=161)
    assert (new.alert_id, new.reopened) == ("a-3", 0)


def test_a_flapping_alert_is_kept_and_told_of_once_it_is_calm(engine: Engine, hook: str, heard: Heard) -> None:
    for minute in range(0, 60, 20):
        rise(engine, f"a-{minute}", minutes=minute)
        recover(engine, minutes=minute + 10)
    assert len(sent(engine)) == 12
    assert rise(engine, "a-60", minutes=60).reopened == 3
    recover(engine, minutes=70)
    rise(engine, "a-80", minutes=80)
    assert tend(engine, heard) == 0
    assert sent(engine) == []
    assert len(steps(engine, "a-0")) == 10
    age(engine, RULES.flap_window)
    assert (tend(engine, heard), tend(engine, heard)) == (1, 0)
    assert sent(engine) == told("firing")
    recover(engine, minutes=500)
    assert sent(engine) == told("resolved")


# Pending.


def test_an_alert_fires_after_its_time(engine: Engine, hook: str, heard: Heard) -> None:
    rise(engine, rules=PATIENT)
    assert (tend(engine, heard, PATIENT), sent(engine)) == (0, [])
    age(engine, 600)
    assert tend(engine, heard, PATIENT) == 1
    assert sent(engine) == told("firing")
    assert steps(engine) == [(None, "pending", ""), ("pending", "firing", "")]
    (event,) = heard.events.get_finished_logs()
    assert event.log_record.severity_text == "ERROR"


def test_what_is_over_before_it_fires_is_never_told_of(engine: Engine, hook: str, heard: Heard) -> None:
    rise(engine, rules=PATIENT)
    recover(engine, minutes=5)
    age(engine, 100_000)
    assert (tend(engine, heard, PATIENT), sent(engine)) == (0, [])
    assert steps(engine) == [(None, "pending", ""), ("pending", "resolved", "back")]
    assert heard.events.get_finished_logs() == ()


# Silences.


def test_a_silence_withholds_until_it_ends(engine: Engine, hook: str, heard: Heard) -> None:
    made = silence(engine)
    rise(engine)
    age(engine, 100_000)
    assert tend(engine, heard) == 0
    assert sent(engine) == [("kafka", "firing", "state", True)]
    assert end_silence(engine, made, ended_by="Ada")
    assert not end_silence(engine, made, ended_by="Ada")
    assert (tend(engine, heard), tend(engine, heard)) == (1, 0)
    assert sent(engine) == [("webhook", "firing", "state", False)]
    assert find_silences(engine) == []
    assert [each.ended_by for each in find_silences(engine, past=True)] == ["Ada"]


def test_what_began_and_ended_in_silence_stays_there(engine: Engine, hook: str, heard: Heard) -> None:
    made = silence(engine)
    rise(engine)
    recover(engine, minutes=9)
    end_silence(engine, made, ended_by="Ada")
    assert tend(engine, heard) == 0
    assert {channel for channel, *_ in sent(engine)} == {"kafka"}


def test_an_end_in_silence_is_told_to_those_who_heard_of_the_beginning(engine: Engine, hook: str, heard: Heard) -> None:
    rise(engine)
    assert sent(engine) == told("firing")
    silence(engine)
    recover(engine, minutes=9)
    assert sent(engine) == [("kafka", "resolved", "state", True)]
    with transaction(engine) as connection:
        connection.execute(update(silences).values(ends_at=NOON, starts_at=NOON - HOUR))
    assert tend(engine, heard) == 1
    assert sent(engine) == [("webhook", "resolved", "state", False)]


@pytest.mark.parametrize(
    "where",
    [{"tenant": "village"}, {"service": "other"}, {"environment": "staging"}, {"hours": 0.9}],
    ids=str,
)
def test_a_silence_of_elsewhere_or_of_another_time_withholds_nothing(
    where: dict[str, Any], engine: Engine, hook: str
) -> None:
    silence(engine, **where)
    rise(engine)
    assert sent(engine) == told("firing")


@pytest.mark.parametrize(
    ("start", "end", "problem"),
    [(-2 * HOUR, -HOUR, "is past"), (2 * HOUR, HOUR, "after it starts"), (HOUR, 2 * HOUR + LONGEST, "at most 30 days")],
)
def test_a_silence_has_an_end_in_sight(start: timedelta, end: timedelta, problem: str, engine: Engine) -> None:
    with pytest.raises(InvalidInput, match=problem):
        add_silence(
            engine, tenant="city", starts_at=NOON + start, ends_at=NOON + end, reason="r", created_by="Ada", now=NOON
        )
    assert find_silences(engine) == []


# Reminders.


def test_what_nobody_acknowledges_is_sent_again(engine: Engine, hook: str, heard: Heard) -> None:
    rise(engine)
    sent(engine)
    for _ in range(2):
        age(engine, RULES.renotify)
        assert (tend(engine, heard), tend(engine, heard)) == (1, 0)
        assert sent(engine) == told("firing", "reminder")
    change_state(engine, "a-1", AlertState.ACKNOWLEDGED, at=NOON, actor="Ada")
    sent(engine)
    age(engine, 10 * RULES.renotify)
    assert (tend(engine, heard), sent(engine)) == (0, [])


def test_of_two_that_tend_at_once_one_sends(engine: Engine, hook: str) -> None:
    segments = [replace(alert().segment, service=f"desk-{number}") for number in range(12)]
    for segment in segments:
        rise(engine, f"a-{segment.service}", segment=segment)
    sent(engine)
    age(engine, RULES.renotify)
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda _: tend(engine, Heard()), range(2)))
    assert sum(done) == len(segments)
    assert sorted(sent(engine)) == sorted(told("firing", "reminder") * len(segments))


def test_an_alert_that_another_holds_is_passed_over(engine: Engine, hook: str, heard: Heard) -> None:
    rise(engine)
    age(engine, RULES.renotify)
    with transaction(engine) as holder:
        holder.execute(select(alerts).with_for_update())
        assert tend(engine, heard) == 0
    assert tend(engine, heard) == 1


@pytest.mark.parametrize(
    ("state", "renotify"),
    [(AlertState.FIRING, 14_400.0), (AlertState.FIRING, 0.0), (AlertState.ACKNOWLEDGED, 14_400.0)],
)
def test_what_became_critical_in_silence_reaches_those_who_hear_nothing_less(
    engine: Engine, heard: Heard, state: AlertState, renotify: float
) -> None:
    rules = replace(RULES, renotify=renotify)
    subscribed(engine, url="https://example.org/hook", least_severity=Severity.CRITICAL)
    rise(engine, "a-1", after=0.15, rules=rules)
    change_state(engine, "a-1", state, at=NOON, actor="Ada")
    made = silence(engine)
    assert rise(engine, "a-2", minutes=9, after=0.25, rules=rules).severity is Severity.CRITICAL
    sent(engine)
    end_silence(engine, made, ended_by="Ada")
    age(engine, 1_000_000)
    tend(engine, heard, rules)
    assert "webhook" in {channel for channel, *_ in sent(engine)}
