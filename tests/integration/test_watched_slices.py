"""Slices with detectors of their own, on a real Postgres: what the whole hides is seen; an incident is one alert."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from monitor.alerts.message import message_of
from monitor.domain.alert import AlertState
from monitor.domain.trace import Slice
from monitor.services.explaining import change_of
from monitor.storage.alarms import take_alarm
from monitor.storage.alerts import change_state, find_alerts, find_history
from monitor.storage.confirmations import request_samples
from monitor.storage.drift_store import load_slice_states
from monitor.storage.engine import transaction
from monitor.storage.ledger import Ledger
from monitor.storage.tables import alerts, confirmation_samples, outbox, slice_states, traces
from monitor.wire import alert_to_json
from tests.examples.alerts import RULES, alert, subscribed
from tests.examples.assessments import assessment
from tests.integration.test_alerting import DRIFT, PER_MINUTE, watch

SETTINGS = DRIFT.model_copy(update={"dimensions": ("prompt_version", "language"), "baseline_verdicts": 80})
Rate = Callable[[str, float], float]


@pytest.fixture
def slicing(engine: Engine) -> Ledger:
    return Ledger(engine, dimensions=["prompt_version", "language"])


def traffic(minutes: int, rate: Rate, *, versions: Mapping[str, float], first: int = 0) -> list[Any]:
    """So many minutes of one service; `versions` are shares of the traffic, `rate` is by version and minute."""
    draw = random.Random(first + 3)
    made = []
    for n in range(first, first + minutes * PER_MINUTE):
        (version,) = draw.choices(list(versions), list(versions.values()))
        said = draw.random() < rate(version, n / PER_MINUTE)
        made.append(
            assessment(
                n,
                probability=0.9 if said else 0.1,
                seconds_past_noon=n * 60 / PER_MINUTE,
                prompt_version=version,
                tags={"language": draw.choice(("en", "de"))},
            )
        )
    return made


def a_small_slice_goes_wrong(version: str, minute: float) -> float:
    return 0.8 if version == "v7" and 120 <= minute < 150 else 0.1


SHARES = {"v6": 0.95, "v7": 0.05}


def test_a_small_slice_that_goes_wrong_is_seen_by_itself_and_resolved(engine: Engine, slicing: Ledger) -> None:
    subscribed(engine, url="https://example.org/v7", cause="prompt_version=v7")
    subscribed(engine, url="https://example.org/v6", cause="prompt_version=v6")
    slicing.record(traffic(240, a_small_slice_goes_wrong, versions=SHARES))
    watch(engine, settings=SETTINGS).step()
    (alert,) = find_alerts(engine)
    assert alert.part == Slice(dimension="prompt_version", value="v7")
    assert alert.alarm.rate_before == pytest.approx(0.1, abs=0.06)
    assert alert.alarm.rate_after > 0.35
    assert alert.state is AlertState.RESOLVED
    history = find_history(engine, alert.alert_id)
    assert history is not None
    assert [step.after for step in history.transitions][-1] is AlertState.RESOLVED
    assert "prompt_version=v7" in message_of(alert_to_json(alert)).title
    with transaction(engine) as connection:
        told = connection.execute(select(outbox.c.subscription_id, outbox.c.payload)).all()
    by_webhook = [row.payload for row in told if row.subscription_id]
    assert {payload["part"]["value"] for payload in by_webhook} == {"v7"}
    assert [payload["state"] for payload in by_webhook] == ["firing", "resolved"]


def test_watching_none_leaves_it_hidden(engine: Engine, slicing: Ledger) -> None:
    slicing.record(traffic(240, a_small_slice_goes_wrong, versions=SHARES))
    watch(engine, settings=SETTINGS.model_copy(update={"watched_slices": 0})).step()
    assert all(alert.part is None for alert in find_alerts(engine))
    assert load_slice_states(engine) == {}


def test_where_all_rises_one_alert_of_the_segment_has_the_slices_as_notes(engine: Engine, slicing: Ledger) -> None:
    slicing.record(traffic(180, lambda _, minute: 0.6 if minute >= 120 else 0.1, versions={"v6": 0.5, "v7": 0.5}))
    watch(engine, settings=SETTINGS).step()
    (alert,) = find_alerts(engine)
    assert alert.part is None
    history = find_history(engine, alert.alert_id)
    assert history is not None
    notes = [step.note for step in history.transitions]
    for part in ("prompt_version=v6", "prompt_version=v7", "language=en", "language=de"):
        assert any(note.startswith(f"{part} rose, too") for note in notes), part
    with transaction(engine) as connection:
        assert len(connection.execute(select(outbox)).all()) == 1


def test_a_slices_alert_becomes_that_of_the_segment_where_all_follows(engine: Engine, slicing: Ledger) -> None:
    def rate(version: str, minute: float) -> float:
        if minute >= 150:
            return 0.6
        return a_small_slice_goes_wrong(version, minute)

    slicing.record(traffic(150, rate, versions=SHARES))
    worker = watch(engine, settings=SETTINGS)
    worker.step()
    (small,) = find_alerts(engine)
    assert small.part is not None
    request_samples(engine, small.alert_id, change_of(small), per_side=5)
    slicing.record(traffic(60, rate, versions=SHARES, first=150 * PER_MINUTE))
    worker.step()
    (wide,) = find_alerts(engine)
    assert (wide.alert_id, wide.part, wide.state) == (small.alert_id, None, AlertState.FIRING)
    assert wide.alarm.change_at > small.alarm.change_at


def test_two_values_of_one_dimension_are_two_incidents(engine: Engine, slicing: Ledger) -> None:
    def rate(version: str, minute: float) -> float:
        return 0.7 if (version == "v7" and minute >= 120) or (version == "v8" and minute >= 150) else 0.1

    slicing.record(traffic(180, rate, versions={"v6": 0.8, "v7": 0.1, "v8": 0.1}))
    quiet = SETTINGS.model_copy(update={"average_run_length": 1e9})
    watch(engine, settings=quiet).step()
    parts = {alert.part for alert in find_alerts(engine)}
    assert parts in ({Slice(dimension="prompt_version", value=value) for value in ("v7", "v8")}, {None})


def test_samples_for_a_slices_alert_are_of_the_slice(engine: Engine, slicing: Ledger) -> None:
    slicing.record(traffic(150, a_small_slice_goes_wrong, versions=SHARES))
    (alert,) = watch(engine, settings=SETTINGS, pool=True).step().alerts
    assert alert.part is not None
    with transaction(engine) as connection:
        drawn = connection.execute(
            select(traces.c.prompt_version, confirmation_samples.c.later).join(
                confirmation_samples, confirmation_samples.c.trace_id == traces.c.trace_id
            )
        ).all()
    assert {row.prompt_version for row in drawn} == {"v7"}
    assert {row.later for row in drawn} == {True, False}


def test_a_restarted_worker_goes_on_where_the_other_stopped(engine: Engine, slicing: Ledger) -> None:
    said = traffic(240, a_small_slice_goes_wrong, versions=SHARES)
    for start in range(0, len(said), 700):
        slicing.record(said[start : start + 700])
        watch(engine, settings=SETTINGS).step()
    (alert,) = find_alerts(engine)
    assert alert.part == Slice(dimension="prompt_version", value="v7")
    assert alert.state is AlertState.RESOLVED


def test_a_state_of_another_release_begins_anew(engine: Engine, slicing: Ledger) -> None:
    slicing.record(traffic(120, a_small_slice_goes_wrong, versions=SHARES))
    watch(engine, settings=SETTINGS).step()
    with transaction(engine) as connection:
        connection.execute(update(slice_states).values(state={"format": 1}))
    slicing.record(traffic(60, a_small_slice_goes_wrong, versions=SHARES, first=120 * PER_MINUTE))
    assert watch(engine, settings=SETTINGS).step().conflicts == 0


def test_the_first_slices_are_watched_and_idle_ones_make_room(engine: Engine, slicing: Ledger) -> None:
    few = SETTINGS.model_copy(update={"watched_slices": 2, "dimensions": ("prompt_version",)})
    ledger = Ledger(engine, dimensions=["prompt_version"])
    worker = watch(engine, settings=few)

    def watched() -> set[str]:
        return {part.value for states in load_slice_states(engine).values() for part in states}

    ledger.record(traffic(10, lambda *_: 0.1, versions={"v1": 0.5, "v2": 0.4, "v3": 0.1}))
    worker.step()
    assert watched() == {"v1", "v2"}
    later = 26 * 60 * PER_MINUTE
    ledger.record(traffic(10, lambda *_: 0.1, versions={"v1": 1.0}, first=later))
    worker.step()
    assert watched() == {"v1", "v2"}  # nobody needs the place of the idle one
    ledger.record(traffic(10, lambda *_: 0.1, versions={"v3": 0.5, "v1": 0.5}, first=later + 10 * PER_MINUTE))
    worker.step()
    assert watched() == {"v1", "v3"}
    nobody = watch(engine, settings=few.model_copy(update={"watched_slices": 0}))
    ledger.record(traffic(10, lambda *_: 0.1, versions={"v1": 1.0}, first=later + 20 * PER_MINUTE))
    nobody.step()
    assert watched() == set()


def test_whoever_heard_of_an_alert_hears_its_end(engine: Engine, slicing: Ledger) -> None:
    of_v7 = subscribed(engine, url="https://example.org/v7", cause="prompt_version=v7")
    of_de = subscribed(engine, url="https://example.org/de", cause="language=de")
    slicing.record(traffic(150, a_small_slice_goes_wrong, versions=SHARES))
    watch(engine, settings=SETTINGS).step()
    (alert,) = find_alerts(engine)
    with transaction(engine) as connection:
        causes = {"causes": [], "examples": [], "looks": 9}
        connection.execute(update(alerts).values(dimension=None, value=None, explanation=causes))
    change_state(engine, alert.alert_id, AlertState.RESOLVED, at=alert.raised_at, actor="ana")
    with transaction(engine) as connection:
        told = connection.execute(select(outbox.c.subscription_id, outbox.c.payload).order_by(outbox.c.id)).all()
    states = [(row.subscription_id, row.payload["state"]) for row in told if row.subscription_id]
    assert states == [(of_v7.subscription_id, "firing"), (of_v7.subscription_id, "resolved")]
    assert of_de.subscription_id not in dict(states)


@pytest.mark.parametrize("has_traffic", [True, False])
def test_only_a_slice_with_traffic_can_be_behind_anothers_rise(
    engine: Engine, slicing: Ledger, *, has_traffic: bool
) -> None:
    """A version that was rolled back never recovers; its alert must not swallow the next incident."""
    slicing.record([assessment(0, prompt_version="v7" if has_traffic else "v6", tags={"language": "de"})])
    of_v7 = replace(alert("a-1"), part=Slice(dimension="prompt_version", value="v7"))
    of_de = replace(alert("a-2"), part=Slice(dimension="language", value="de"))
    with transaction(engine) as connection:
        take_alarm(connection, of_v7, RULES)
        taken = take_alarm(connection, of_de, RULES)
    found = {one.alert_id for one in find_alerts(engine)}
    assert (taken is None, found) == ((True, {"a-1"}) if has_traffic else (False, {"a-1", "a-2"}))
