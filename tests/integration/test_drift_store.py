"""What drift detection reads and keeps, on a real Postgres."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, text

from monitor.domain.alert import Alert, AlertState
from monitor.storage.accounting import accounting
from monitor.storage.alerts import change_state, find_alerts, raise_alert
from monitor.storage.closed_minutes import ClosedMinute, closed_minutes, late_verdicts
from monitor.storage.drift_store import load_states, save_fold
from monitor.storage.engine import LedgerRefused, snapshot, transaction
from monitor.storage.ledger import Ledger
from monitor.storage.outbox import claim_deliveries, mark_delivered, mark_failed
from monitor.storage.partition_positions import Position, forget_soundings, note_soundings, positions
from monitor.storage.recount import recount
from monitor.storage.segment_keys import SegmentKey
from monitor.storage.subscriptions import find_subscriptions, unsubscribe
from monitor.storage.tables import alert_transitions, outbox
from monitor.wire import alert_to_json
from tests.examples.alerts import RULES, alert, subscribed
from tests.examples.assessments import NOON, TOPIC, VERSION, assessment, dead_letter, origin, trace

MINUTE = timedelta(minutes=1)
LATENESS = timedelta(seconds=30)
KEY = SegmentKey(segment=trace("any").segment, evaluator="faithfulness", judge_version=VERSION)


def at(minutes: int) -> datetime:
    return NOON + minutes * MINUTE


def known(engine: Engine) -> Sequence[Position]:
    with snapshot(engine) as connection:
        return positions(connection)


def fold_first(engine: Engine, *alerts: Alert) -> None:
    """Fold the closed minutes of the one segment, as a drift worker does that has never run."""
    minutes = closed_minutes(engine, lateness=LATENESS)[KEY]
    saved = save_fold(engine, KEY, minutes=minutes, state={"seen": 1}, previous=None, rules=RULES, alerts=alerts)
    assert saved == list(alerts)


@pytest.fixture
def two_minutes(ledger: Ledger) -> None:
    """12:00 with three first verdicts, one hallucinated; 12:01 with one; an event at 12:02:30."""
    ledger.record(
        [
            assessment(0, probability=0.9, seconds_past_noon=0),
            assessment(1, probability=0.1, seconds_past_noon=30),
            assessment(2, probability=0.2, seconds_past_noon=59.9),
            assessment(3, probability=None, escalated=True, seconds_past_noon=40),
            assessment(4, probability=0.2, seconds_past_noon=60),
            assessment(5, probability=0.2, seconds_past_noon=150),
        ]
    )


def test_a_minute_is_closed_once_an_event_is_late_enough(engine: Engine, two_minutes: None) -> None:
    closed = (ClosedMinute(minute=at(0), total=3, hallucinated=1), ClosedMinute(minute=at(1), total=1, hallucinated=0))
    assert closed_minutes(engine, lateness=LATENESS) == {KEY: closed}
    assert closed_minutes(engine, lateness=timedelta(seconds=31)) == {KEY: closed[:1]}
    assert closed_minutes(engine, lateness=LATENESS, limit=1) == {KEY: closed[:1]}


def test_an_event_dated_ahead_of_time_closes_nothing_early(engine: Engine, ledger: Ledger) -> None:
    now = (datetime.now(UTC) - NOON).total_seconds()
    ledger.record([assessment(0, seconds_past_noon=now - 30), assessment(1, seconds_past_noon=now + 3000)])
    assert closed_minutes(engine, lateness=timedelta(minutes=5)) == {}
    ledger.record([assessment(2, seconds_past_noon=now - 900)])
    ((minute,),) = closed_minutes(engine, lateness=timedelta(minutes=5)).values()
    assert minute.total == 1


def test_a_minute_stays_open_while_its_traces_may_wait_in_another_partition(engine: Engine, ledger: Ledger) -> None:
    # Two partitions are caught up with: the first one quickly, the second has come to 12:02 only.
    ledger.record([assessment(number, seconds_past_noon=60.0 * number) for number in range(10)])
    ledger.record([assessment(0, trace_id="p1-0", partition=1, end=3, seconds_past_noon=120)])
    assert [minute.minute for minute in closed_minutes(engine, lateness=LATENESS)[KEY]] == [at(0)]
    ledger.record([assessment(1, trace_id="p1-1", partition=1, end=3, seconds_past_noon=180)])
    assert [minute.minute for minute in closed_minutes(engine, lateness=LATENESS)[KEY]] == [at(0), at(1)]
    ledger.record([assessment(2, trace_id="p1-2", partition=1, end=3, seconds_past_noon=240)])
    assert len(closed_minutes(engine, lateness=LATENESS)[KEY]) == 8


def test_no_minute_is_closed_before_anything_came_from_a_partition_that_has_traces(
    engine: Engine, ledger: Ledger
) -> None:
    # The first partition is caught up with before anything comes from the second; the others are empty.
    note_soundings(engine, TOPIC, {0: range(10), 1: range(2), 2: range(0), 3: range(7, 7)})
    ledger.record([assessment(number, end=10, seconds_past_noon=60.0 * number) for number in range(10)])
    assert closed_minutes(engine, lateness=LATENESS) == {}
    ledger.record([assessment(0, trace_id="p1-0", partition=1, end=2, seconds_past_noon=120)])
    assert [minute.minute for minute in closed_minutes(engine, lateness=LATENESS)[KEY]] == [at(0)]
    ledger.record([assessment(1, trace_id="p1-1", partition=1, end=2, seconds_past_noon=130)])
    assert len(closed_minutes(engine, lateness=LATENESS)[KEY]) == 8


def test_a_partition_that_was_caught_up_with_holds_minutes_open_once_it_has_more(
    engine: Engine, ledger: Ledger
) -> None:
    ledger.record([assessment(0, trace_id="p1-0", partition=1, end=1, seconds_past_noon=90)])
    note_soundings(engine, TOPIC, {0: range(10), 1: range(5)})
    ledger.record([assessment(number, end=10, seconds_past_noon=60.0 * number) for number in range(10)])
    assert [minute.minute for minute in closed_minutes(engine, lateness=LATENESS)[KEY]] == [at(0)]


def test_a_partition_with_nothing_but_dead_letters_says_nothing_of_time(engine: Engine, ledger: Ledger) -> None:
    events = [assessment(number, seconds_past_noon=60.0 * number) for number in range(3)]
    ledger.record(events, [dead_letter(0, partition=1, end=2)])
    assert closed_minutes(engine, lateness=LATENESS) == {}
    ledger.record([], [dead_letter(1, partition=1, end=2)])
    assert len(closed_minutes(engine, lateness=LATENESS)[KEY]) == 1


def test_a_sounding_that_comes_late_takes_nothing_back(engine: Engine, ledger: Ledger) -> None:
    note_soundings(engine, TOPIC, {0: range(10), 1: range(1, 2)})
    note_soundings(engine, TOPIC, {0: range(9), 1: range(3)})
    assert {each.partition: (each.next_offset, each.ending) for each in known(engine)} == {0: (0, 10), 1: (1, 3)}


def test_soundings_leave_the_accounting_as_it_was(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0, end=3)])
    before = accounting(engine)
    note_soundings(engine, TOPIC, {0: range(10), 1: range(10)})
    assert accounting(engine) == before
    assert recount(engine) == []


def test_of_a_topic_made_anew_the_latest_life_counts_and_what_still_comes(engine: Engine, ledger: Ledger) -> None:
    note_soundings(engine, f"{TOPIC}@now", {0: range(3)})
    note_soundings(engine, f"{TOPIC}@before", {0: range(100), 1: range(100)})
    note_soundings(engine, "rag.other.v1", {0: range(0)})
    note_soundings(engine, f"{TOPIC}@now", {0: range(4), 1: range(1)})
    assert {each.log for each in known(engine)} == {f"{TOPIC}@now", "rag.other.v1"}
    # A judge worker that was not started again says that it reads the life before.
    stale = replace(origin(5, end=9), topic_id="before")
    ledger.record([replace(assessment(5, seconds_past_noon=0), origin=stale)])
    assert [each.partition for each in known(engine) if each.log == stale.log] == [0]
    with engine.begin() as connection:
        connection.execute(text("update intake set arrived_at = now() - interval '2 hours'"))
    assert {each.log for each in known(engine)} == {f"{TOPIC}@now", "rag.other.v1"}


def test_of_a_topic_that_nobody_asks_about_any_more_nothing_is_waited_for(engine: Engine, ledger: Ledger) -> None:
    note_soundings(engine, "rag.renamed.v1", {0: range(5)})
    with engine.begin() as connection:
        connection.execute(text("update soundings set sounded_at = now() - interval '2 hours'"))
    assert [each.log for each in known(engine)] == ["rag.renamed.v1"]
    note_soundings(engine, TOPIC, {0: range(5)})
    assert [each.log for each in known(engine)] == [TOPIC]


def test_while_kafka_does_not_say_all_may_have_more(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(number, seconds_past_noon=60.0 * number) for number in range(3)])
    note_soundings(engine, TOPIC, {0: range(3), 1: range(0), 2: None})
    assert [each.behind for each in known(engine)] == [False, False, True]
    assert closed_minutes(engine, lateness=LATENESS) == {}
    note_soundings(engine, TOPIC, {0: range(3), 1: range(0), 2: range(0)})
    assert len(closed_minutes(engine, lateness=LATENESS)[KEY]) == 1
    forget_soundings(engine, TOPIC)
    assert [each.behind for each in known(engine)] == [True, True, True]
    assert closed_minutes(engine, lateness=LATENESS) == {}
    note_soundings(engine, TOPIC, {0: range(3), 1: range(0), 2: range(0)})
    assert [each.ending for each in known(engine)] == [3, 0, 0]


def test_who_is_not_waited_for_holds_no_minute_open(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(number, seconds_past_noon=60.0 * number) for number in range(3)])
    ledger.record([assessment(0, trace_id="p1-0", partition=1, end=3, seconds_past_noon=0)])
    assert closed_minutes(engine, lateness=LATENESS) == {}
    assert len(closed_minutes(engine, lateness=LATENESS, waited_for=lambda _: ())[KEY]) == 1


def test_segments_close_by_their_own_clock(engine: Engine, ledger: Ledger) -> None:
    ledger.record(
        [
            assessment(0, seconds_past_noon=0),
            assessment(1, seconds_past_noon=600),
            assessment(2, seconds_past_noon=0, service="slow-desk"),
            assessment(3, seconds_past_noon=0, judge_version="cascade@000000000002"),
        ]
    )
    assert list(closed_minutes(engine, lateness=LATENESS)) == [KEY]


def test_a_folded_minute_does_not_come_again(engine: Engine, ledger: Ledger, two_minutes: None) -> None:
    fold_first(engine)
    assert load_states(engine)[KEY].folded_through == at(1)
    assert load_states(engine)[KEY].state == {"seen": 1}
    assert closed_minutes(engine, lateness=LATENESS) == {}
    ledger.record([assessment(6, seconds_past_noon=400)])
    assert [minute.minute for minute in closed_minutes(engine, lateness=LATENESS)[KEY]] == [at(2)]


def test_a_verdict_for_a_folded_minute_is_late_and_counted(engine: Engine, ledger: Ledger, two_minutes: None) -> None:
    fold_first(engine)
    assert late_verdicts(engine) == {}
    ledger.record(
        [
            assessment(6, seconds_past_noon=10),
            assessment(7, seconds_past_noon=-120),
            assessment(8, seconds_past_noon=-120, probability=None),
        ]
    )
    assert late_verdicts(engine) == {KEY: 2}
    assert closed_minutes(engine, lateness=LATENESS) == {}
    assert recount(engine) == []


def test_a_verdict_between_reading_and_folding_is_late(engine: Engine, ledger: Ledger, two_minutes: None) -> None:
    minutes = closed_minutes(engine, lateness=LATENESS)[KEY]
    ledger.record([assessment(6, seconds_past_noon=10), assessment(7, seconds_past_noon=-60)])
    assert save_fold(engine, KEY, minutes=minutes, state={}, previous=None, rules=RULES) == []
    assert late_verdicts(engine) == {KEY: 2}


@pytest.mark.parametrize("previous", [None, at(0)])
def test_only_one_of_two_workers_folds(engine: Engine, two_minutes: None, previous: datetime | None) -> None:
    minutes = closed_minutes(engine, lateness=LATENESS)[KEY]
    fold_first(engine)
    saved = save_fold(engine, KEY, minutes=minutes, state={"seen": 2}, previous=previous, rules=RULES, alerts=[alert()])
    assert saved is None
    assert load_states(engine)[KEY].state == {"seen": 1}
    assert find_alerts(engine) == []


def test_an_alert_is_saved_with_its_fold_and_its_deliveries(engine: Engine, two_minutes: None) -> None:
    everything = subscribed(engine, tenant="city", url="https://example.org/all")
    subscribed(engine, tenant="city", url="https://example.org/other", service="other")
    subscribed(engine, tenant="city", url="https://example.org/staging", environment="staging")
    subscribed(engine, tenant="village", url="https://example.org/village")
    exact = subscribed(
        engine,
        tenant="city",
        url="https://example.org/x",
        service="help-desk",
        environment="production",
        secret="s3cret",
    )
    fold_first(engine, alert())
    assert find_alerts(engine) == [alert()]
    deliveries = claim_deliveries(engine, limit=10, lease_seconds=60)
    assert {(delivery.channel, delivery.subscription) for delivery in deliveries} == {
        ("kafka", None),
        ("webhook", everything),
        ("webhook", exact),
    }
    assert len(deliveries) == 3
    assert all(delivery.payload == alert_to_json(alert()) for delivery in deliveries)
    assert "s3cret" not in repr(deliveries)


def test_a_failed_save_keeps_nothing(engine: Engine, ledger: Ledger, two_minutes: None) -> None:
    fold_first(engine, alert())
    change_state(engine, "a-1", AlertState.RESOLVED, at=at(-600), actor="Ada")
    ledger.record([assessment(6, seconds_past_noon=400)])
    minutes = closed_minutes(engine, lateness=LATENESS)[KEY]
    with pytest.raises(LedgerRefused, match="pk_alerts"):
        save_fold(engine, KEY, minutes=minutes, state={"seen": 2}, previous=at(1), rules=RULES, alerts=[alert()])
    assert load_states(engine)[KEY].state == {"seen": 1}
    assert closed_minutes(engine, lateness=LATENESS)[KEY] == minutes


def test_a_state_change_is_noted_and_delivered_once(engine: Engine, two_minutes: None) -> None:
    fold_first(engine, alert())
    for _ in range(2):
        changed = change_state(engine, "a-1", AlertState.ACKNOWLEDGED, at=at(3), actor="Ada \x00", note="on it")
        assert changed is not None
        assert changed.state is AlertState.ACKNOWLEDGED
    assert find_alerts(engine, states=[AlertState.FIRING]) == []
    with transaction(engine) as connection:
        noted = connection.execute(
            select(alert_transitions.c["from_state", "to_state", "actor"]).order_by(alert_transitions.c.id)
        ).all()
    assert [tuple(row) for row in noted] == [
        (None, "pending", "drift"),
        ("pending", "firing", "drift"),
        ("firing", "acknowledged", "Ada \N{REPLACEMENT CHARACTER}"),
    ]
    states = [delivery.payload["state"] for delivery in claim_deliveries(engine, limit=9, lease_seconds=60)]
    assert states == ["firing", "acknowledged"]
    assert change_state(engine, "nobody", AlertState.RESOLVED, at=at(3), actor="Ada") is None


def test_a_recovery_resolves_what_is_open_and_raises_nothing(engine: Engine, ledger: Ledger, two_minutes: None) -> None:
    fold_first(engine, alert("a-1"))
    with transaction(engine) as connection:
        # An earlier release opened an alert for each alarm.
        raise_alert(connection, alert("a-2"))
    change_state(engine, "a-2", AlertState.ACKNOWLEDGED, at=at(3), actor="Ada")
    ledger.record([assessment(6, seconds_past_noon=400)])
    minutes = closed_minutes(engine, lateness=LATENESS)[KEY]
    back = replace(alert("a-3"), alarm=replace(alert().alarm, recovers=True, rate_after=0.08), raised_at=at(6))
    resolved = save_fold(engine, KEY, minutes=minutes, state={}, previous=at(1), rules=RULES, alerts=[back])
    assert resolved is not None
    assert [(each.alert_id, each.state) for each in resolved] == [("a-1", "resolved"), ("a-2", "resolved")]
    assert {each.alert_id for each in find_alerts(engine, states=[AlertState.RESOLVED])} == {"a-1", "a-2"}
    assert len(find_alerts(engine)) == 2
    with transaction(engine) as connection:
        last = alert_transitions.c["from_state", "to_state", "actor", "note"]
        noted = connection.execute(select(last).order_by(alert_transitions.c.id.desc()).limit(2)).all()
    assert {tuple(row) for row in noted} == {
        ("firing", "resolved", "drift", "the rate is back at 8.0%"),
        ("acknowledged", "resolved", "drift", "the rate is back at 8.0%"),
    }


def _claim_one(engine: Engine, lease_seconds: float = 60.0) -> Any:
    [delivery] = claim_deliveries(engine, limit=1, lease_seconds=lease_seconds)
    return delivery


def test_a_delivery_is_leased_then_done(engine: Engine, two_minutes: None) -> None:
    fold_first(engine, alert())
    delivery = _claim_one(engine)
    assert claim_deliveries(engine, limit=1, lease_seconds=60) == []
    assert mark_delivered(engine, delivery)
    assert not mark_delivered(engine, delivery)


def test_a_delivery_whose_lease_is_over_belongs_to_the_next_worker(engine: Engine, two_minutes: None) -> None:
    fold_first(engine, alert())
    lost = _claim_one(engine, lease_seconds=0)
    found = _claim_one(engine)
    assert (found.id, found.attempts) == (lost.id, 2)
    assert not mark_failed(engine, lost, error="too late", retry_seconds=None)
    assert mark_failed(engine, found, error="refused \x00", retry_seconds=0)
    assert _claim_one(engine).attempts == 3


def test_a_delivery_is_given_up(engine: Engine, two_minutes: None) -> None:
    fold_first(engine, alert())
    assert mark_failed(engine, _claim_one(engine, lease_seconds=0), error="refused", retry_seconds=None)
    assert claim_deliveries(engine, limit=1, lease_seconds=60) == []
    with transaction(engine) as connection:
        assert connection.execute(select(outbox.c.state, outbox.c.last_error)).one() == ("dead", "refused")


def test_unsubscribing_drops_what_waits(engine: Engine, two_minutes: None) -> None:
    webhook = subscribed(engine, tenant="city", url="https://example.org/all")
    fold_first(engine, alert())
    assert find_subscriptions(engine, tenant="city") == [webhook]
    assert find_subscriptions(engine, tenant="village") == []
    assert unsubscribe(engine, webhook.subscription_id)
    assert not unsubscribe(engine, webhook.subscription_id)
    with transaction(engine) as connection:
        assert connection.execute(select(func.count()).select_from(outbox)).scalar_one() == 1
