"""Days of event time on a real Postgres: made when they are needed, dropped when they are not, with writers at work."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select, text
from typer import Typer
from typer.testing import CliRunner

from monitor.cli import retain
from monitor.config.retention import RetentionSettings, TenantRetention
from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.domain.verdict import Assessment
from monitor.services.retention import Retaining, keeping
from monitor.storage.engine import LedgerRefused, transaction
from monitor.storage.escalations import EscalationQueue
from monitor.storage.expirations import Keeping
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.retention import expire
from monitor.storage.tables import traces, verdicts
from tests.examples.assessments import NOON, POOL, assessment, judgement, verdict

DAY = timedelta(days=1)
NOW = NOON + 10 * DAY
KEEP_TWO = {"verdicts": Keeping(days=2), "payloads": Keeping(days=1)}


def of_day(offset: int, days: float, *, tenant: str = "city") -> Assessment:
    said = assessment(offset, trace_id=f"{tenant}-{offset}", escalated=offset % 2 == 0)
    return replace(said, trace=replace(said.trace, event_time=NOON + days * DAY, tenant=tenant))


def partitions(engine: Engine, table: str) -> list[str]:
    query = "select inhrelid::regclass::text from pg_inherits where inhparent = cast(:table as regclass) order by 1"
    with transaction(engine) as connection:
        found = connection.execute(text(query), {"table": table}).scalars().all()
    return [name.removeprefix(f"{table}_") for name in found if not name.endswith("_before")]


def kept(engine: Engine, view: str = "verdicts") -> set[str]:
    table = {"verdicts": verdicts, "traces": traces}[view]
    with transaction(engine) as connection:
        return set(connection.execute(select(table.c.trace_id)).scalars())


def test_a_day_is_made_when_it_is_needed(engine: Engine, ledger: Ledger) -> None:
    ledger.record([of_day(0, 0), of_day(1, 40)])
    days = partitions(engine, "verdict_rows")
    assert {"20260301", "20260410"} <= set(days)
    assert partitions(engine, "judgement_rows") == partitions(engine, "payloads") == days
    today = datetime.now(UTC).date()
    assert f"{today + DAY:%Y%m%d}" in days


def test_an_event_of_years_ago_lies_with_all_that_is_older_than_the_ledger(engine: Engine, ledger: Ledger) -> None:
    ledger.record([of_day(0, -9000)])
    with transaction(engine) as connection:
        (where,) = connection.execute(text("select tableoid::regclass::text from verdict_rows")).scalars()
    assert where == "verdict_rows_before"
    assert recount(engine) == []


def test_an_event_that_lies_weeks_ahead_is_refused(ledger: Ledger) -> None:
    ahead = assessment(0)
    ahead = replace(ahead, trace=replace(ahead.trace, event_time=datetime.now(UTC) + 30 * DAY))
    with pytest.raises(LedgerRefused, match="more than a week ahead"):
        ledger.record([ahead])


def test_many_ledgers_make_the_same_day_at_once(engine: Engine) -> None:
    failures: list[Exception] = []

    def write(number: int) -> None:
        try:
            Ledger(engine).record([of_day(number, number % 3)])
        except Exception as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [threading.Thread(target=write, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(kept(engine)) == 6


def test_old_days_go_and_what_was_counted_stays(engine: Engine, ledger: Ledger) -> None:
    ledger.record([of_day(number, number) for number in range(10)])
    with transaction(engine) as connection:
        counted = connection.execute(text("select sum(total), count(*) from rollups")).one()
    gone = expire(engine, KEEP_TWO, now=NOW)
    assert gone
    assert kept(engine) == {"city-8", "city-9"}
    assert kept(engine, "traces") == {"city-9"}
    assert len([name for name in gone.partitions if name.startswith("payloads")]) == 9
    with transaction(engine) as connection:
        assert connection.execute(text("select sum(total), count(*) from rollups")).one() == counted
    assert recount(engine) == []
    again = expire(engine, KEEP_TWO, now=NOW)
    assert again
    assert again.partitions == []


def test_what_comes_for_a_day_that_is_gone_is_kept_until_the_next_time(engine: Engine, ledger: Ledger) -> None:
    ledger.record([of_day(0, 0)])
    expire(engine, KEEP_TWO, now=NOW)
    assert ledger.record([of_day(1, 0)]).verdicts == 1
    assert kept(engine) == {"city-1"}
    expire(engine, KEEP_TWO, now=NOW)
    assert kept(engine) == set()
    assert recount(engine) == []


def test_tenants_have_times_of_their_own(engine: Engine, ledger: Ledger) -> None:
    tenants = ("city", "archive", "brief")
    ledger.record([of_day(3 * day + n, day, tenant=t) for day in range(10) for n, t in enumerate(tenants)])
    own = Keeping(days=3, tenants={"archive": 6, "brief": 1})
    gone = expire(engine, {"verdicts": own, "payloads": own}, now=NOW)
    assert gone
    with transaction(engine) as connection:
        counts = dict(connection.execute(text("select tenant, count(*) from verdicts group by 1")).all())
    assert counts == {"city": 3, "archive": 6, "brief": 1}
    assert gone.rows["verdict_rows"] == gone.rows["payloads"] == 3 + 5
    assert recount(engine) == []


def test_what_an_earlier_time_was_stopped_in_is_taken_up(engine: Engine, ledger: Ledger) -> None:
    ledger.record([of_day(0, 0), of_day(1, 9)])
    with engine.connect() as connection:
        steady = connection.execution_options(isolation_level="AUTOCOMMIT")
        steady.execute(text("alter table verdict_rows detach partition verdict_rows_20260301 concurrently"))
    gone = expire(engine, KEEP_TWO, now=NOW)
    assert gone
    assert "verdict_rows_20260301" in gone.partitions
    with transaction(engine) as connection:
        assert connection.execute(text("select to_regclass('verdict_rows_20260301')")).scalar_one() is None
    assert ledger.record([of_day(2, 0)]).verdicts == 1


def test_writers_and_readers_go_on_while_days_are_dropped(engine: Engine, ledger: Ledger) -> None:
    ledger.record([of_day(number, number) for number in range(8)])
    stop = threading.Event()
    failures: list[Exception] = []
    written: list[int] = []

    def write() -> None:
        while not stop.is_set():
            try:
                written.append(ledger.record([of_day(1000 + len(written), 9 + len(written) / 1e6)]).verdicts)
                kept(engine)
            except Exception as error:  # noqa: BLE001 - told by the test
                failures.append(error)
                return

    thread = threading.Thread(target=write)
    thread.start()
    try:
        expire(engine, KEEP_TWO, now=NOW)
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert sum(written) == len(written) > 0
    assert recount(engine) == []


def test_one_process_at_a_time(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("select pg_advisory_lock(hashtextextended('groundwatch retention', 0))"))
        assert expire(engine, KEEP_TWO, now=NOW) is None
        connection.rollback()
        connection.execute(text("select pg_advisory_unlock_all()"))


def test_the_worker_retains_at_its_pace(engine: Engine, ledger: Ledger) -> None:
    ledger.record([of_day(0, 0)])
    looks = threading.Semaphore(0)

    def clock() -> datetime:
        looks.release()
        return NOON + 800 * DAY

    retaining = Retaining(engine, RetentionSettings(every_seconds=0.05), clock=clock)
    retaining.start()
    assert looks.acquire(timeout=60)
    assert looks.acquire(timeout=60)
    retaining.stop(seconds=60)
    assert kept(engine) == set()
    assert recount(engine) == []


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, postgres_url: str) -> Callable[..., tuple[int, str, str]]:
    app = Typer()
    app.callback()(lambda: None)
    retain.register(app)
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", postgres_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["retain", *arguments])
        return result.exit_code, result.stdout, result.stderr

    return run


def test_the_command_says_what_goes_and_what_went(
    ledger: Ledger, engine: Engine, cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.record([of_day(0, 0)])
    monkeypatch.setenv("GROUNDWATCH_RETENTION__PAYLOAD_DAYS", "1")
    code, out, err = cli("--dry-run")
    assert (code, out) == (0, "")
    assert "would drop payloads_20260301" in err
    assert kept(engine, "traces") == {"city-0"}
    code, out, _ = cli("--json")
    assert code == 0
    assert json.loads(out)["partitions"] == ["payloads_20260301"]
    assert (kept(engine, "traces"), kept(engine)) == (set(), {"city-0"})
    assert "Nothing is older" in cli()[2]


def test_settings_become_times() -> None:
    own = TenantRetention(tenant="brief", payload_days=3)
    made = keeping(RetentionSettings(payload_days=10, verdict_days=20, tenants=(own,)))
    assert made["payloads"] == Keeping(days=10, tenants={"brief": 3})
    assert made["verdicts"] == Keeping(days=20)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"payload_days": 800}, "at most verdict_days"),
        ({"tenants": ({"tenant": "a"}, {"tenant": "a"})}, "named once"),
        ({"tenants": ({"tenant": "a", "verdict_days": 1},)}, "tenant 'a': payload_days should be at most"),
        ({"verdict_days": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RetentionSettings.model_validate(wrong)


def receipts(engine: Engine) -> dict[int, str]:
    with transaction(engine) as connection:
        return dict(connection.execute(text('select "offset", outcome from receipts')).all())


def escalated(engine: Engine) -> dict[str, tuple[str, bool, str | None]]:
    query = "select trace_id, state, assessment is not null, last_error from escalations"
    with transaction(engine) as connection:
        return {name: (state, text_, error) for name, state, text_, error in connection.execute(text(query))}


def waiting(offset: int, days: float, *, judged: bool) -> Assessment:
    said = assessment(offset, trace_id=f"city-{offset}", escalated=True, probability=0.9 if judged else None)
    return replace(said, trace=replace(said.trace, event_time=NOON + days * DAY))


GIVEN_UP = ("given_up", False, "expired: kept no longer, and the pool had not judged it")


def test_what_waits_for_the_pool_is_given_up_with_its_text(engine: Engine, ledger: Ledger) -> None:
    ledger.record([waiting(0, 0, judged=False), waiting(1, 0, judged=True), waiting(2, 9, judged=False)])
    with transaction(engine) as connection:
        # Written by another release, which nobody here can read.
        unreadable = "update escalations set assessment = '{}' where trace_id = 'city-0'"
        connection.execute(text(unreadable))
    assert receipts(engine) == {0: "pending", 1: "verdict", 2: "pending"}
    assert (gone := expire(engine, {"payloads": Keeping(days=1)}, now=NOW, dry_run=True))
    assert gone.given_up == 2
    assert (gone := expire(engine, {"payloads": Keeping(days=1)}, now=NOW))
    assert gone.given_up == 2
    assert receipts(engine) == {0: "unjudged", 1: "verdict", 2: "pending"}
    assert escalated(engine) == {"city-0": GIVEN_UP, "city-1": GIVEN_UP, "city-2": ("waiting", True, None)}
    assert recount(engine) == []
    with transaction(engine) as connection:
        said = connection.execute(text("select outcome, reason, label from verdicts order by trace_id")).all()
    assert [tuple(row) for row in said][:2] == [("unjudged", "expired", None), ("verdict", None, "hallucinated")]


def test_tenants_keep_what_waits_for_the_pool_for_times_of_their_own(engine: Engine, ledger: Ledger) -> None:
    ledger.record([of_day(2 * n, 5, tenant=tenant) for n, tenant in enumerate(("city", "archive", "brief"))])
    own = Keeping(days=6, tenants={"archive": 8, "brief": 1})
    expire(engine, {"payloads": own}, now=NOW)
    assert {name: state for name, (state, *_) in escalated(engine).items()} == {
        "city-0": "waiting", "archive-2": "waiting", "brief-4": "given_up",
    }  # fmt: skip


@pytest.mark.parametrize("judged", [True, False])
def test_a_worker_at_the_pool_comes_too_late(engine: Engine, ledger: Ledger, *, judged: bool) -> None:
    ledger.record([waiting(0, 0, judged=False)])
    queue = EscalationQueue(engine)
    (claimed,) = queue.claim(1, lease_seconds=60)
    expire(engine, KEEP_TWO, now=NOW)
    said = judgement(POOL, probability=0.9)
    if judged:
        assert not queue.complete(claimed, said, verdict(0.9, by=POOL), at=NOW)
    else:
        assert not queue.give_up(claimed, CouldNotJudge(reason=Unjudgeable.DEADLINE), at=NOW)
    assert receipts(engine) == {0: "unjudged"}
    assert recount(engine) == []


@pytest.mark.parametrize(("judged", "ends"), [(True, "verdict"), (False, "unjudged")])
def test_a_trace_whose_row_went_while_it_waited_still_ends(
    engine: Engine, ledger: Ledger, *, judged: bool, ends: str
) -> None:
    """As the release before left it: nothing waits for ever because of that."""
    ledger.record([waiting(0, 0, judged=False)])
    with transaction(engine) as connection:
        connection.execute(text("delete from verdict_rows"))
        connection.execute(text("delete from judgement_rows"))
        connection.execute(text("insert into expirations values ('verdicts', '*', :now)"), {"now": NOW})
    queue = EscalationQueue(engine)
    (claimed,) = queue.claim(1, lease_seconds=60)
    if judged:
        assert queue.complete(claimed, judgement(POOL, probability=0.9), verdict(0.9, by=POOL), at=NOW)
    else:
        assert queue.give_up(claimed, CouldNotJudge(reason=Unjudgeable.DEADLINE), at=NOW)
    assert receipts(engine) == {0: ends}
    assert recount(engine) == []
    with transaction(engine) as connection:
        counted = connection.execute(text("select traces, total, unjudged, pending from rollups")).one()
        waits = connection.execute(text("select pending from report.accounting")).scalar_one()
    assert tuple(counted) == (1, int(judged), int(not judged), 0)
    assert waits == 0


def test_the_command_counts_rows_of_tenants_before_they_go(
    ledger: Ledger, engine: Engine, cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.record([of_day(0, 0), of_day(2, 0, tenant="brief")])
    for name, value in {
        "TENANTS": '[{"tenant": "brief", "payload_days": 1}]',
        "PAYLOAD_DAYS": "30000",
        "VERDICT_DAYS": "30000",
    }.items():
        monkeypatch.setenv(f"GROUNDWATCH_RETENTION__{name}", value)
    _, out, _ = cli("--dry-run", "--json")
    planned = json.loads(out)
    assert (planned["given_up"], planned["rows"]["payloads"]) == (1, 1)
    assert kept(engine, "traces") == {"city-0", "brief-2"}
    assert "would delete 1 rows of payloads" in cli("--dry-run")[2]
    assert "gave up 1 escalations" in cli()[2]
    assert kept(engine, "traces") == {"city-0"}
