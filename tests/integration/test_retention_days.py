"""Days that somebody holds, that are half gone, or that are somebody else's; and what a wrong clock may do: nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import pytest
from sqlalchemy import Engine, text

from monitor.config.retention import RetentionSettings
from monitor.domain.errors import ClocksDiffer, LedgerUnavailable
from monitor.domain.verdict import Assessment
from monitor.services.retention import Retaining, agreed_time
from monitor.storage.engine import transaction
from monitor.storage.expirations import Keeping, promise
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.retention import expire
from tests.examples.assessments import NOON, assessment

DAY = timedelta(days=1)
NOW = NOON + 10 * DAY
KEEP = {"payloads": Keeping(days=1), "verdicts": Keeping(days=2)}


def said(offset: int, *, days: float = 0.0) -> Assessment:
    made = assessment(offset)
    return replace(made, trace=replace(made.trace, event_time=NOON + days * DAY))


def stands(engine: Engine) -> set[str]:
    with transaction(engine) as connection:
        return set(connection.execute(text("select trace_id from verdicts")).scalars())


def there(engine: Engine, pattern: str) -> list[str]:
    query = "select relname from pg_class where relkind = 'r' and relname ~ :pattern order by 1"
    with transaction(engine) as connection:
        return list(connection.execute(text(query), {"pattern": pattern}).scalars())


def detach(url: str, name: str, *, how: str = "") -> None:
    table = name.rsplit("_", 1)[0]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"alter table {table} detach partition {name} {how}")


@contextmanager
def half_detached(url: str, name: str) -> Iterator[psycopg.Connection]:
    """Whoever detached it was stopped while it waited for a reader, who is still there."""
    with psycopg.connect(url) as reader, psycopg.connect(url, autocommit=True) as stopped:
        reader.execute("select count(*) from verdict_rows where event_time > now()")
        stopped.execute("set statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            stopped.execute(f"alter table verdict_rows detach partition {name} concurrently")
        yield reader


def test_a_day_that_is_half_gone_keeps_nobody_out(engine: Engine, ledger: Ledger, postgres_url: str) -> None:
    ledger.record([said(0)])
    with half_detached(postgres_url, "verdict_rows_20260301") as reader:
        reader.rollback()
        reader.execute("select count(*) from verdict_rows where event_time > now()")
        # The reader does not look at that day, and holds the table: who drops the day as it is waits, and all behind.
        assert Ledger(engine).record([said(1)]).verdicts == 1
    assert stands(engine) == {"t-0-1"}


def test_a_day_that_is_read_while_half_gone_makes_its_batch_wait(
    engine: Engine, ledger: Ledger, postgres_url: str
) -> None:
    ledger.record([said(0)])
    with half_detached(postgres_url, "verdict_rows_20260301") as reader:
        reader.rollback()
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from verdict_rows")
        with pytest.raises(LedgerUnavailable):
            Ledger(engine).record([said(1)])
        assert Ledger(engine).record([said(2, days=9)]).verdicts == 1
        reader.rollback()
        assert Ledger(engine).record([said(1)]).verdicts == 1


def test_a_day_that_cannot_be_had_holds_up_no_other_table(engine: Engine, ledger: Ledger, postgres_url: str) -> None:
    ledger.record([said(0), said(1, days=1), said(9, days=9)])
    with half_detached(postgres_url, "verdict_rows_20260301") as reader:
        reader.rollback()
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from segments")
        assert (gone := expire(engine, KEEP, now=NOW))
        # Postgres detaches one day of a table at a time.
        assert gone.waiting == ["verdict_rows_20260301", "verdict_rows_20260302"]
        assert {"judgement_rows_20260301", "judgement_rows_20260302", "payloads_20260302"} <= set(gone.partitions)
    assert stands(engine) == {"t-0-1", "t-0-9"}
    assert recount(engine) == []
    assert (gone := expire(engine, KEEP, now=NOW))
    assert (gone.waiting, gone.partitions) == ([], ["verdict_rows_20260301", "verdict_rows_20260302"])
    assert stands(engine) == {"t-0-9"}
    assert recount(engine) == []


def test_a_young_day_that_somebody_detached_is_theirs(engine: Engine, ledger: Ledger, postgres_url: str) -> None:
    ledger.record([said(0), said(9, days=9)])
    detach(postgres_url, "payloads_20260310")
    expire(engine, {"payloads": Keeping(days=3)}, now=NOW)
    assert there(engine, "payloads_20260310") == ["payloads_20260310"]
    # Somebody writes to that day: theirs is moved aside.
    assert Ledger(engine).record([said(10, days=9)]).verdicts == 1
    with transaction(engine) as connection:
        aside, new = there(engine, "payloads_20260310")[::-1]
        assert aside.startswith(f"{new}_aside_")
        found = [connection.execute(text(f"select trace_id from {name}")).scalar_one() for name in (aside, new)]
    assert found == ["t-0-9", "t-0-10"]
    expire(engine, {"payloads": Keeping(days=3)}, now=NOW + 30 * DAY)
    assert there(engine, "payloads_20260310") == [aside]


def test_an_old_day_that_was_detached_goes_when_times_became_longer(
    engine: Engine, ledger: Ledger, postgres_url: str
) -> None:
    ledger.record([said(0), said(1, days=1)])
    promise(engine, "verdicts", Keeping(days=8), today=(NOW - DAY).date())
    detach(postgres_url, "verdict_rows_20260301")
    expire(engine, {"verdicts": Keeping(days=900)}, now=NOW)
    assert there(engine, "verdict_rows_2026030[12]") == ["verdict_rows_20260302"]


def ahead() -> datetime:
    return datetime.now(UTC) + 800 * DAY


def test_the_databases_time_counts(engine: Engine) -> None:
    before = datetime.now(UTC)
    at = agreed_time(engine, clock=lambda: datetime.now(UTC) - timedelta(hours=20))
    assert abs(at - before) < timedelta(hours=1)
    with pytest.raises(ClocksDiffer, match=r"in Postgres and .* here: nothing is taken away"):
        agreed_time(engine, clock=ahead)


def test_a_clock_that_is_years_ahead_takes_nothing_away(engine: Engine, ledger: Ledger) -> None:
    today = assessment(0)
    ledger.record([replace(today, trace=replace(today.trace, event_time=datetime.now(UTC)))])
    looks = threading.Semaphore(0)

    def clock() -> datetime:
        looks.release()
        return ahead()

    retaining = Retaining(
        engine, RetentionSettings(every_seconds=0.05), clock=partial(agreed_time, engine, clock=clock)
    )
    retaining.start()
    assert looks.acquire(timeout=60)
    assert looks.acquire(timeout=60)
    retaining.stop(seconds=60)
    assert stands(engine) == {"t-0-0"}
