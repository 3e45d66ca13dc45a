"""What rates need of verdicts that are gone: summed up before they go, and never again."""

import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from monitor.domain.verdict import Assessment
from monitor.storage.engine import transaction
from monitor.storage.escalations import EscalationQueue
from monitor.storage.expirations import Keeping, promise
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.retention import expire
from monitor.storage.revision import revise
from monitor.storage.trusted_hours import sum_up_for_good, sum_up_trusted
from tests.examples.assessments import NOON, POOL, VERSION, assessment, judgement, verdict

DAY = timedelta(days=1)
NOW = NOON + 10 * DAY
KEEPING = Keeping(days=2)
KEEP = {"verdicts": KEEPING}
# said hallucinated, is hallucinated by the pool's word: how many.
TRUE_ALARM = {(True, True): 1, (True, False): 0, (False, True): 0, (False, False): 0}
FALSE_ALARM = {(True, True): 0, (True, False): 1, (False, True): 0, (False, False): 0}
NO_WORD = dict.fromkeys(TRUE_ALARM, 0)


def said(offset: int, *, days: float = 0.0, tenant: str = "city", **changes: Any) -> Assessment:
    """Hallucinated, says the local judge, and sends it to the pool."""
    made = assessment(offset, probability=0.9, escalated=True, chance=0.5, **changes)
    return replace(made, trace=replace(made.trace, event_time=NOON + days * DAY, tenant=tenant))


def ask_the_pool(engine: Engine, probability: float) -> None:
    queue = EscalationQueue(engine)
    for one in queue.claim(100, lease_seconds=60):
        word, outcome = judgement(POOL, probability=probability), verdict(probability, by=POOL)
        assert queue.complete(one, word, outcome, at=NOW)


def another_word(connection: Connection, of: Assessment, probability: float) -> None:
    word = judgement(POOL, probability=probability)
    revise(connection, of, judgement=word, outcome=verdict(probability, by=POOL), at=NOW)


def sums(engine: Engine, hour: datetime = NOON, tenant: str = "city") -> dict[tuple[bool, bool], int]:
    query = "select said, truth, n from trusted_hours where hour = :hour and tenant = :tenant"
    with transaction(engine) as connection:
        rows = connection.execute(text(query), {"hour": hour, "tenant": tenant}).all()
    return {(row.said, row.truth): row.n for row in rows}


def stands(engine: Engine) -> set[str]:
    with transaction(engine) as connection:
        return set(connection.execute(text("select trace_id from verdicts")).scalars())


def test_sums_are_made_before_their_verdicts_go(engine: Engine, ledger: Ledger) -> None:
    ledger.record([said(0)])
    ask_the_pool(engine, 0.1)
    expire(engine, KEEP, now=NOW)
    assert stands(engine) == set()
    assert sums(engine) == FALSE_ALARM


def test_a_word_that_is_being_added_is_waited_for(engine: Engine, ledger: Ledger) -> None:
    ledger.record([said(0)])
    ask_the_pool(engine, 0.1)
    sum_up_trusted(engine, until=NOW)
    gone: list[object] = []
    thread = threading.Thread(target=lambda: gone.append(expire(engine, KEEP, now=NOW)))
    with transaction(engine) as writer:
        another_word(writer, said(0), 0.9)  # drops the sum, for all who look after it
        thread.start()
        # Until Postgres says that it waits for this transaction; it gives up by itself after its lock's timeout.
        while thread.is_alive() and not waited_for(engine):
            time.sleep(0.01)
        assert sums(engine) == FALSE_ALARM
    thread.join()
    assert gone != [None]
    assert stands(engine) == set()
    assert sums(engine) == TRUE_ALARM
    assert recount(engine) == []


def waited_for(engine: Engine) -> bool:
    with transaction(engine) as connection:
        query = "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
        return bool(connection.execute(text(query)).scalar_one())


def test_days_stay_whose_hours_are_held_for_too_long(engine: Engine, ledger: Ledger) -> None:
    ledger.record([said(0), said(1, days=1), said(2, days=2)])
    ask_the_pool(engine, 0.1)
    with engine.connect() as writer:
        adding = "update rollups set pool_judged = pool_judged + 1 where minute = :minute"
        writer.execute(text(adding), {"minute": NOON + DAY})
        assert (gone := expire(engine, KEEP, now=NOW))
        assert gone.waiting == ["2026-03-02 12:00"]
        writer.rollback()
    assert stands(engine) == {"t-0-1", "t-0-2"}
    assert recount(engine) == []
    assert (gone := expire(engine, KEEP, now=NOW))
    assert gone.waiting == []
    assert stands(engine) == set()
    assert [sums(engine, NOON + days * DAY) for days in range(3)] == [FALSE_ALARM] * 3


def test_a_word_that_comes_after_the_promise_changes_no_sum(engine: Engine, ledger: Ledger) -> None:
    ledger.record([said(0)])
    ask_the_pool(engine, 0.1)
    (scope,) = promise(engine, "verdicts", KEEPING, today=NOW.date())
    assert sum_up_for_good(engine, scope) == scope.through
    with transaction(engine) as writer:
        another_word(writer, said(0), 0.9)
    assert sums(engine) == FALSE_ALARM
    expire(engine, KEEP, now=NOW)
    assert (stands(engine), sums(engine)) == (set(), FALSE_ALARM)


def test_what_was_promised_and_not_done_is_done_by_the_next(engine: Engine, ledger: Ledger) -> None:
    ledger.record([said(0)])
    ask_the_pool(engine, 0.1)
    promise(engine, "verdicts", KEEPING, today=NOW.date())
    assert sum_up_trusted(engine, until=NOW) == 0
    expire(engine, KEEP, now=NOW)
    assert (stands(engine), sums(engine)) == (set(), FALSE_ALARM)


def test_a_trace_that_comes_after_its_day_went_changes_no_sum(engine: Engine, ledger: Ledger) -> None:
    ledger.record([said(0)])
    ask_the_pool(engine, 0.1)
    expire(engine, KEEP, now=NOW)
    ledger.record([said(1)])
    ask_the_pool(engine, 0.9)
    assert sums(engine) == FALSE_ALARM
    sum_up_trusted(engine, until=NOW)
    expire(engine, KEEP, now=NOW)
    assert (stands(engine), sums(engine)) == (set(), FALSE_ALARM)


def test_an_hour_without_a_sum_gets_none_when_its_verdicts_are_gone(engine: Engine, ledger: Ledger) -> None:
    ledger.record([said(0)])
    ask_the_pool(engine, 0.1)
    expire(engine, KEEP, now=NOW)
    with transaction(engine) as connection:
        connection.execute(text("delete from trusted_hours"))  # as the release before did
    assert sum_up_trusted(engine, until=NOW) == 0
    expire(engine, KEEP, now=NOW)
    assert sums(engine) == {}


def test_tenants_are_summed_up_when_their_time_has_come(engine: Engine, ledger: Ledger) -> None:
    tenants = ("city", "archive", "brief")
    ledger.record([said(number, days=7, tenant=tenant) for number, tenant in enumerate(tenants)])
    ask_the_pool(engine, 0.1)
    at = NOON + 7 * DAY
    own = Keeping(days=5, tenants={"archive": 8, "brief": 1})
    expire(engine, {"verdicts": own}, now=NOW)
    assert [sums(engine, at, tenant) for tenant in tenants] == [{}, {}, FALSE_ALARM]
    assert sum_up_trusted(engine, until=NOW) == 1
    ask = "update rollups set pool_judged = pool_judged + 1"
    with transaction(engine) as connection:
        connection.execute(text(ask))
    assert [sums(engine, at, tenant) for tenant in tenants] == [{}, {}, FALSE_ALARM]
    expire(engine, {"verdicts": own}, now=NOW + 3 * DAY)
    assert [sums(engine, at, tenant) for tenant in tenants] == [FALSE_ALARM, {}, FALSE_ALARM]
    # Archive is as all others from now on.
    expire(engine, {"verdicts": Keeping(days=5)}, now=NOW + 3 * DAY)
    assert [sums(engine, at, tenant) for tenant in tenants] == [FALSE_ALARM] * 3
    assert stands(engine) == set()


class Stopped(Exception):
    """As a process that ends at some statement."""


def stopped_at(engine: Engine, number: int, keep: dict[str, Keeping]) -> bool:
    """A pass that ends when it comes to that statement; whether it did."""
    left = [number]

    def count(*_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Stopped

    event.listen(Engine, "before_cursor_execute", count)
    try:
        expire(engine, keep, now=NOW)
    except Stopped:
        return True
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    return False


def test_a_pass_may_be_stopped_at_any_statement_and_rates_never_change(engine: Engine, ledger: Ledger) -> None:
    ledger.record([said(10 * day + n, days=day, tenant=("city", "brief")[n % 2]) for day in range(4) for n in range(4)])
    ask_the_pool(engine, 0.1)
    unjudged = assessment(90, probability=None, escalated=True)
    ledger.record([unjudged, said(91, days=1)])
    keep = {"payloads": Keeping(days=7), "verdicts": Keeping(days=8, tenants={"brief": 7})}

    def rates() -> list[Any]:
        query = "select * from rate_totals(:since, :until, 'hour', null, null, 'pool') order by 1, 2, 3, 4, 5, 6"
        with transaction(engine) as connection:
            asked = {"since": NOON - DAY, "until": NOON + 9 * DAY}
            return [tuple(row) for row in connection.execute(text(query), asked)]

    before, stops = rates(), 0
    assert len(before) == 8
    while stopped_at(engine, stops + 1, keep):
        stops += 1
        assert rates() == before
        assert recount(engine) == []
    assert stops > 10
    assert stands(engine) == {"t-0-20", "t-0-22", "t-0-30", "t-0-31", "t-0-32", "t-0-33"}
    with transaction(engine) as connection:
        assert connection.execute(text("select pending from report.accounting")).scalar_one() == 0


@pytest.mark.parametrize("trust", ["pool", "people"])
def test_a_minute_that_a_replay_judged_in_counts_when_its_verdicts_are_gone(
    engine: Engine, ledger: Ledger, trust: str
) -> None:
    # The version was already at work in this minute when it judged an older trace of it anew.
    live, again = said(1, judge_version="next"), said(0, judge_version="next")
    again = replace(again, origin=replace(again.origin, topic="rag.replays.v1", replay_id=7))
    ledger.record([said(0), live])
    ledger.record([again])
    query = text("select judge_version, n from rate_totals(:since, :until, null, null, null, :trust) order by 1")
    asked = {"since": NOON, "until": NOON + DAY, "trust": trust}
    with transaction(engine) as connection:
        assert connection.execute(query, asked).all() == [(VERSION, 1), ("next", 2)]
    expire(engine, KEEP, now=NOW)
    with transaction(engine) as connection:
        assert connection.execute(query, asked).all() == [(VERSION, 1), ("next", 1)]
