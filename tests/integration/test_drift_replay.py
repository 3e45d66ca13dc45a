"""One ledger, other orders of arrival: the same alerts, as long as nothing comes later than is allowed."""

import random
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from monitor.config import AlertSettings, DriftSettings
from monitor.domain.alert import Alarm
from monitor.domain.verdict import Assessment
from monitor.services.drift import DriftWatch
from monitor.storage.alerts import find_alerts
from monitor.storage.drift_store import load_slice_states, load_states
from monitor.storage.engine import transaction
from monitor.storage.ledger import Ledger
from tests.examples.assessments import NOON, assessment
from tests.support.heard import Heard

VERDICTS = 100_000
SEGMENTS = 20
SECONDS_APART = 0.2
BATCH = 2_000
LATENESS_SECONDS = 120.0
SETTINGS = DriftSettings(
    baseline_verdicts=1000,
    average_run_length=1000,
    allowed_lateness_seconds=LATENESS_SECONDS,
    dimensions=("prompt_version",),
    watched_slices=3,
)
TABLES = "verdict_rows, judgement_rows, payloads, receipt_ranges, duplicates, intake, rollups, segment_hours"
TABLES += ", drift_states, alerts, escalations, slice_rollups, slice_states"


def recorded() -> list[Assessment]:
    """Twenty segments side by side; every fourth one's rate doubles half way, and comes back before the end.

    Their traffic has four prompt versions, of which three can be watched.
    """
    draw = random.Random(11)
    made = []
    for number in range(VERDICTS):
        place, share = number % SEGMENTS, number / VERDICTS
        rate = 0.2 if place % 4 == 0 and 0.5 < share < 0.75 else 0.1
        made.append(
            assessment(
                number,
                probability=0.9 if draw.random() < rate else 0.1,
                seconds_past_noon=number * SECONDS_APART,
                service=f"service-{place}",
                prompt_version=f"v{draw.choice((1, 2, 2, 3, 3, 3, 4))}",
            )
        )
    return made


def arrival(said: list[Assessment], *, seed: int) -> list[Assessment]:
    """The same verdicts, each up to the allowed lateness behind its time."""
    draw = random.Random(seed)
    due = [number * SECONDS_APART + draw.uniform(0, LATENESS_SECONDS) for number in range(len(said))]
    return [said[number] for number in sorted(range(len(said)), key=due.__getitem__)]


def alarms(engine: Engine, said: list[Assessment], *, seed: int) -> tuple[dict[str, tuple[Alarm, str]], object, object]:
    """Write them batch by batch, with a drift worker that looks now and then; its alerts, and what it remembers."""
    with transaction(engine) as connection:
        connection.execute(text(f"truncate {TABLES} cascade"))
    draw, ledger = random.Random(seed), Ledger(engine, dimensions=SETTINGS.dimensions)
    watch = DriftWatch(engine, SETTINGS, Heard().telemetry, alerts=AlertSettings(), clock=clock)
    for start in range(0, len(said), BATCH):
        ledger.record(said[start : start + BATCH])
        if draw.random() < 0.3:
            watch.step()
    watch.step()
    raised = {alert.alert_id: (alert.alarm, alert.state.value) for alert in find_alerts(engine)}
    return raised, load_states(engine), load_slice_states(engine)


def clock() -> datetime:
    return NOON + timedelta(days=1)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_three_orders_of_arrival_give_the_same_alerts(engine: Engine) -> None:
    said = recorded()
    in_order, states, slices = alarms(engine, said, seed=0)
    risen = sum(alarm.rate_after > alarm.rate_before for alarm, _ in in_order.values())
    assert risen >= SEGMENTS // 4
    assert "resolved" in {state for _, state in in_order.values()}
    for seed in (1, 2):
        assert alarms(engine, arrival(said, seed=seed), seed=seed) == (in_order, states, slices)
