"""A rise and the pool: samples go to the front of its queue, and its word says who changed. On a real Postgres."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, func, select, update

from monitor.config import AlertSettings
from monitor.domain.alert import Alert
from monitor.domain.confirmation import ConfirmationState
from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.services.confirming import Confirming
from monitor.services.drift import DriftWatch
from monitor.storage.alerts import find_alerts
from monitor.storage.engine import transaction
from monitor.storage.escalations import Escalation, EscalationQueue
from monitor.storage.ledger import Ledger
from monitor.storage.rates import count_rates
from monitor.storage.recount import recount
from monitor.storage.tables import alert_transitions, confirmation_samples, escalations, outbox, payloads
from tests.examples.assessments import NOON, POOL, assessment, judgement, verdict
from tests.integration.test_alerting import DRIFT, QUIET_THEN_RISE, clock, verdicts
from tests.support.heard import Heard

WITHIN = timedelta(hours=1)
SETTINGS = DRIFT.model_copy(update={"confirm_with": 40})


def confirming(engine: Engine, *, per_side: int = 40, now: Callable[[], datetime] = clock) -> Confirming:
    return Confirming(engine, per_side=per_side, within=WITHIN, clock=now)


@pytest.fixture
def raised(engine: Engine, ledger: Ledger) -> Alert:
    ledger.record(verdicts(*QUIET_THEN_RISE))
    watch = DriftWatch(engine, SETTINGS, Heard().telemetry, alerts=AlertSettings(), clock=clock, pool=True)
    (alert,) = watch.step().alerts
    return alert


def answer(engine: Engine, says: Callable[[Escalation], bool | None], *, limit: int = 1000) -> int:
    """Be the pool: True is hallucinated, None could not be judged."""
    queue = EscalationQueue(engine)
    claimed = queue.claim(limit, lease_seconds=60)
    for escalation in claimed:
        word = says(escalation)
        if word is None:
            queue.give_up(escalation, CouldNotJudge(reason=Unjudgeable.TOO_LONG), at=NOON)
            continue
        said = judgement(POOL, probability=0.9 if word else 0.1)
        assert queue.complete(escalation, said, verdict(0.9 if word else 0.1, by=POOL), at=NOON)
    return len(claimed)


def drawn(engine: Engine) -> list[int]:
    """How many before, and after."""
    sample = confirmation_samples.c.later
    with transaction(engine) as connection:
        found = connection.execute(select(sample, func.count()).group_by(sample).order_by(sample))
        return [count for _, count in found]


def test_a_raised_alert_waits_for_the_pool_and_its_samples_go_first(engine: Engine, raised: Alert) -> None:
    assert raised.confirmation is not None
    assert raised.confirmation.state is ConfirmationState.PENDING
    before, after = drawn(engine)
    assert before == 40
    assert 10 < after <= 40
    with transaction(engine) as connection:
        waiting = connection.execute(select(escalations)).all()
    assert {(row.priority, row.reason, row.state) for row in waiting} == {(0, "confirmation", "waiting")}
    assert len(waiting) == sum(drawn(engine)) > 40
    assert confirming(engine).step() == []
    assert len(waiting) == sum(drawn(engine))


def test_a_service_that_changed_is_confirmed_and_all_hear_of_it_once(engine: Engine, raised: Alert) -> None:
    answer(engine, lambda _: True)
    (alert,) = confirming(engine).step()
    assert confirming(engine).step() == []
    assert alert.confirmation is not None
    assert alert.confirmation.state is ConfirmationState.CONFIRMED
    assert alert.confirmation.heard == alert.confirmation.asked == sum(drawn(engine))
    assert find_alerts(engine) == [alert]
    assert recount(engine) == []
    with transaction(engine) as connection:
        notes = connection.execute(select(alert_transitions.c.note).order_by(alert_transitions.c.id)).scalars().all()
        sent = connection.execute(select(outbox.c.payload).order_by(outbox.c.id)).scalars().all()
    assert "confirmed" in notes[-1]
    assert [payload["confirmation"]["state"] for payload in sent] == ["pending", "confirmed"]


def test_a_judge_that_changed_is_not_confirmed(engine: Engine, raised: Alert) -> None:
    change = raised.alarm.change_at
    answer(engine, lambda escalation: escalation.assessment.trace.event_time < change)
    (alert,) = confirming(engine).step()
    assert alert.confirmation is not None
    assert alert.confirmation.state is ConfirmationState.NOT_CONFIRMED


def test_a_conclusion_waits_for_all_words_but_not_for_ever(engine: Engine, raised: Alert) -> None:
    answer(engine, lambda _: True, limit=45)
    assert confirming(engine).step() == []
    (alert,) = confirming(engine, now=lambda: raised.raised_at + WITHIN).step()
    assert alert.confirmation is not None
    assert alert.confirmation.heard == 45
    answer(engine, lambda _: False)
    assert confirming(engine, now=lambda: raised.raised_at + 2 * WITHIN).step() == []


def test_a_pool_that_cannot_judge_leaves_it_open_whether(engine: Engine, raised: Alert) -> None:
    answer(engine, lambda _: None)
    (alert,) = confirming(engine).step()
    assert alert.confirmation is not None
    assert (alert.confirmation.state, alert.confirmation.heard) == (ConfirmationState.INCONCLUSIVE, 0)


def test_what_the_pool_has_judged_or_was_to_judge_is_not_asked_twice(engine: Engine, ledger: Ledger) -> None:
    said = verdicts(*QUIET_THEN_RISE)
    escalated = [assessment(100_000 + n, probability=0.9, escalated=True, seconds_past_noon=n) for n in range(30)]
    ledger.record([*said, *escalated])
    answer(engine, lambda _: True, limit=15)
    watch = DriftWatch(
        engine,
        SETTINGS.model_copy(update={"confirm_with": 1000}),
        Heard().telemetry,
        alerts=AlertSettings(),
        clock=clock,
        pool=True,
    )
    watch.step()
    with transaction(engine) as connection:
        rows = connection.execute(select(escalations.c["reason", "state", "priority"])).all()
    audits = sorted((row.state, row.priority) for row in rows if row.reason == "audit")
    assert audits == [("done", 100)] * 15 + [("waiting", 0)] * 15
    assert len(rows) == sum(drawn(engine))
    answer(engine, lambda _: True)
    (alert,) = confirming(engine).step()
    assert alert.confirmation is not None
    assert alert.confirmation.heard == len(rows)


def test_a_trace_whose_text_is_gone_is_no_obstacle(engine: Engine, ledger: Ledger) -> None:
    ledger.record(verdicts(*QUIET_THEN_RISE))
    with transaction(engine) as connection:
        connection.execute(update(payloads).values(answer="", documents=[]).where(payloads.c.trace_id.like("%7")))
        connection.execute(payloads.delete().where(payloads.c.trace_id.like("%3")))
    watch = DriftWatch(engine, SETTINGS, Heard().telemetry, alerts=AlertSettings(), clock=clock, pool=True)
    watch.step()
    answered = answer(engine, lambda _: True)
    assert answered < sum(drawn(engine))
    (alert,) = confirming(engine).step()
    assert alert.confirmation is not None
    assert (alert.confirmation.state, alert.confirmation.heard) == (ConfirmationState.CONFIRMED, answered)


def test_rates_take_no_account_of_answers_that_were_chosen_for_being_flagged(engine: Engine, raised: Alert) -> None:
    answer(engine, lambda _: True)
    (counted,) = count_rates(engine, since=NOON, until=NOON + timedelta(days=1))
    assert counted.sums.audits == 0


def test_without_a_pool_nobody_is_asked(engine: Engine, ledger: Ledger) -> None:
    ledger.record(verdicts(*QUIET_THEN_RISE))
    (alert,) = DriftWatch(engine, SETTINGS, Heard().telemetry, alerts=AlertSettings(), clock=clock).step().alerts
    (kept,) = find_alerts(engine)
    assert alert.confirmation is kept.confirmation is None
    assert confirming(engine).step() == []
