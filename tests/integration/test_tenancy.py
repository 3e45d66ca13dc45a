"""Attempts to read another tenant's rows, to write, and to run for ever, as a reader of one tenant."""

import os
import secrets
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import errors as pg
from pydantic import SecretStr
from sqlalchemy import Engine, text

from monitor.config import PostgresSettings
from monitor.domain.errors import InvalidInput, LedgerUnavailable
from monitor.domain.feedback import Thumb
from monitor.services.rates import segment_rates
from monitor.services.reader_watch import ReaderWatch
from monitor.storage.access import OWN, VIEWS_ROLE, covered_since, protect, release
from monitor.storage.access_readers import add_reader, change_reader, list_readers, remove_reader, stop_overlong
from monitor.storage.engine import create_ledger_engine, transaction
from monitor.storage.escalations import EscalationQueue
from monitor.storage.feedback import FeedbackBook
from monitor.storage.ledger import Ledger
from monitor.storage.migrate import check, downgrade, upgrade
from monitor.storage.recount import recount
from monitor.storage.trusted_hours import sum_up_trusted
from tests.examples.assessments import NOON, POOL, assessment, dead_letter, judgement, verdict
from tests.examples.feedback import feedback

SECRET = "RIVAL-SECRET"
ROLES = ("groundwatch_views", "groundwatch_reader", "groundwatch_reader_all", "groundwatch_writer")
# What cannot be told apart by tenant: refused to readers of some.
WHOLE = {"accounting", "accounting_by_partition", "dead_letter_history", "replays", "replay_accounting_by_partition"}
LAST_DAY = "(now() - interval '1 day', now())"
ALWAYS = "('2026-01-01Z', now())"
ARGUMENTS = {
    "hallucination_rates": LAST_DAY,
    "agreement": LAST_DAY,
    "unjudged": LAST_DAY,
    "feedback_given": ALWAYS,
}

FILL = """
insert into expirations (kind, tenant, before) values ('verdicts', :tenant, '2000-01-01 00:00Z');
insert into alerts (alert_id, tenant, service, environment, evaluator, judge_version, state, direction, event_time,
    change_at, evidence, rate_before, rate_after, verdicts_seen, delay_verdicts, average_run_length, raised_at)
values ('a-' || :tenant, :tenant, :service, 'production', 'faithfulness', 'v', 'firing', 'rise', now(), now(),
    10, 0.1, 0.3, 9, 9, 9, now());
insert into alert_transitions (alert_id, at, actor, from_state, to_state, note)
values ('a-' || :tenant, now(), 'someone', null, 'firing', :service);
insert into labels (tenant, trace_id, evaluator, actor, label, note)
values (:tenant, :tenant || '-1', 'faithfulness', 'ann', 'faithful', :service);
insert into pool_spend (tenant, day, calls) values (:tenant, current_date, 3)
"""


@pytest.fixture
def filled(engine: Engine, ledger: Ledger) -> Engine:
    """Two tenants' rows in everything that `report` shows; all texts of the rival's hold its secret."""
    an_hour_ago = (datetime.now(UTC) - NOON).total_seconds() - 3600
    for place, (tenant, service) in enumerate({"city": "help-desk", "rival": SECRET}.items()):
        ledger.record(
            [
                assessment(
                    place * 10 + number,
                    trace_id=f"{tenant}-{number}",
                    tenant=tenant,
                    service=service,
                    probability=None if number == 2 else 0.9,
                    seconds_past_noon=an_hour_ago,
                    otel_trace_id=f"{place}{number}" * 16,
                    answer=f"{service} said no. {number}",
                    question=f"{service}?",
                    tags={"of": service},
                )
                for number in range(4)
            ],
            [dead_letter(place * 10 + 4)],
        )
        pool_answers(engine, tenant, service, offset=place * 10 + 5, seconds=an_hour_ago)
        FeedbackBook(engine).record([feedback(f"{tenant}-f", tenant=tenant, trace_id=f"{tenant}-1", thumb=Thumb.UP)])
        with transaction(engine) as connection:
            for statement in FILL.split(";\n"):
                connection.execute(text(statement), {"tenant": tenant, "service": service})
    sum_up_trusted(engine, until=datetime.now(UTC))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("insert into replays (actor, selection) values ('me', '{}')")
        connection.exec_driver_sql("insert into intake (topic, partition, replays) values ('replays', 0, true)")
        connection.exec_driver_sql("analyze")
    return engine


def pool_answers(engine: Engine, tenant: str, service: str, *, offset: int, seconds: float) -> None:
    """A trace that the pool had its word on."""
    said = assessment(
        offset,
        trace_id=f"{tenant}-asked",
        tenant=tenant,
        service=service,
        probability=0.9,
        escalated=True,
        seconds_past_noon=seconds,
        answer=f"{service} said no.",
        question=f"{service}?",
    )
    Ledger(engine).record([said])
    (escalation,) = EscalationQueue(engine).claim(1, lease_seconds=60)
    word = replace(judgement(POOL, probability=0.9), chosen_because="audit")
    EscalationQueue(engine).complete(escalation, word, verdict(0.9, by=POOL), at=datetime.now(UTC))


SEGMENTS = """
create table if not exists segments (
    segment_id integer primary key, tenant text, service text, environment text, evaluator text, judge_version text
)
"""
SEGMENTS_OF_TWO = """
insert into segments (segment_id, tenant, service, environment, evaluator, judge_version)
values (-1, 'city', 's', 'e', 'f', 'v'), (-2, 'rival', 's', 'e', 'f', 'v')
"""

Connect = Callable[..., psycopg.Connection[Any]]


@pytest.fixture
def reader(filled: Engine, postgres_url: str) -> Iterator[Connect]:
    """Makes readers of the tenants named, and opens a session of each."""
    made: list[tuple[str, psycopg.Connection[Any]]] = []

    def connect(*tenants: str, seconds: float = 30.0) -> psycopg.Connection[Any]:
        name = f"r_{secrets.token_hex(4)}"
        add_reader(filled, name=name, tenants=tenants, statement_seconds=seconds, password=secrets.token_hex(8))
        session = psycopg.connect(as_user(postgres_url, name), autocommit=True)
        made.append((name, session))
        return session

    yield connect
    for name, session in made:
        session.close()
        if any(one.name == name for one in list_readers(filled)):
            remove_reader(filled, name)


def as_user(url: str, name: str) -> str:
    return url.replace("postgres@", f"{name}@", 1)


def told(rows: Any) -> str:
    return "\n".join(map(str, rows))


def relations(engine: Engine, schema: str) -> list[str]:
    with engine.connect() as connection:
        return list(
            connection.scalars(
                text(
                    "select relname from pg_class where relnamespace = to_regnamespace(:schema)"
                    " and relkind in ('r', 'p', 'v', 'm', 'f') order by 1"
                ),
                {"schema": schema},
            )
        )


def columns_of(session: psycopg.Connection[Any], view: str) -> list[str]:
    description = session.execute(f"select * from {view} limit 0").description  # type: ignore[arg-type]
    return [column.name for column in description or ()]


# What a reader sees, and what not


@pytest.mark.parametrize("schema", ["report", "report_parts"])
def test_a_reader_sees_its_tenants_rows_of_every_view_and_no_other(
    filled: Engine, reader: Connect, postgres_url: str, schema: str
) -> None:
    session = reader("city")
    with psycopg.connect(postgres_url) as owner:
        for name in relations(filled, schema):
            view = f'{schema}."{name}"'
            if name in WHOLE:
                with pytest.raises(pg.InsufficientPrivilege, match="whole installation"):
                    session.execute(f"select * from {view}")
                assert owner.execute(f"select * from {view}").fetchall()
                continue
            seen = session.execute(f"select * from {view}").fetchall()
            assert SECRET not in told(seen), view
            if "tenant" in columns_of(owner, view) and not name.startswith("label_"):
                every = owner.execute(f"select tenant, count(*) from {view} group by 1").fetchall()
                counts = dict(every)
                assert set(counts) == {"city", "rival"}, f"{view}: nothing to hide"
                assert len(seen) == counts["city"], view


def test_a_reader_sees_its_tenants_rows_of_every_function_and_no_other(
    filled: Engine, reader: Connect, postgres_url: str
) -> None:
    with filled.connect() as connection:
        names = list(
            connection.scalars(text("select proname from pg_proc where pronamespace = 'report'::regnamespace"))
        )
    session = reader("city")
    with psycopg.connect(postgres_url) as owner:
        for name in names:
            call = f"select tenant from report.{name}{ARGUMENTS[name]}"
            assert {row[0] for row in owner.execute(call)} == {"city", "rival"}
            assert {row[0] for row in session.execute(call)} == {"city"}


def test_readers_of_several_tenants_and_of_all(reader: Connect) -> None:
    query = "select distinct tenant from verdict_history order by 1"
    assert reader("city", "rival").execute(query).fetchall() == [("city",), ("rival",)]
    assert reader("*").execute(query).fetchall() == [("city",), ("rival",)]
    assert reader("nobody").execute(query).fetchall() == []
    assert reader("*").execute("select accepted from accounting").fetchone() == (16,)


def test_narrowing_can_only_narrow(reader: Connect) -> None:
    query = "select distinct tenant from verdict_history order by 1"
    one, every = reader("city"), reader("*")
    for session in (one, every):
        session.execute("set groundwatch.tenant = 'rival'")
    assert one.execute(query).fetchall() == []
    assert every.execute(query).fetchall() == [("rival",)]
    with pytest.raises(pg.InsufficientPrivilege, match="whole installation"):
        every.execute("select * from accounting")
    one.execute("set groundwatch.tenant = '*'")
    assert one.execute(query).fetchall() == []


# Attempts to get across


def test_no_table_and_no_view_beneath_can_be_read(filled: Engine, reader: Connect) -> None:
    session = reader("city")
    for name in relations(filled, "public"):
        with pytest.raises(pg.InsufficientPrivilege):
            session.execute(f'select * from public."{name}"')


@pytest.mark.parametrize(
    "statement",
    [
        *[f"set role {role}" for role in (*ROLES, "postgres")],
        "set session authorization postgres",
        "alter role current_user superuser",
        "alter role current_user bypassrls",
        "grant groundwatch_reader_all to current_user",
        "copy (select 1) to program 'id'",
        "copy public.verdicts to stdout",
        "select pg_read_file('postgresql.conf')",
        "select pg_ls_dir('.')",
        "select * from pg_authid",
        "select * from pg_statistic",
        "create table public.mine ()",
        "create table report.mine ()",
        "create view report_parts.mine as select 1",
        "create function public.rate_wilson(text) returns int language sql as 'select 1'",
        "create schema mine",
        "insert into report.verdict_history (tenant) values ('city')",
        "update report_parts.labels set label = 'hallucinated'",
        "delete from report_parts.labels",
        "delete from public.rollups",
        "insert into public.reader_tenants values (current_user, 'rival')",
        "truncate public.rollups",
        "alter view report.verdict_history set (security_invoker)",
        "drop view report.verdict_history",
        "create policy mine on public.rollups using (true)",
        "alter table public.rollups disable row level security",
        "comment on view report.feedback is 'mine'",
    ],
)
def test_what_a_reader_may_not_do(reader: Connect, statement: LiteralString) -> None:
    session = reader("city")
    # Being read-only by default is a courtesy that anyone may set aside.
    session.execute("set default_transaction_read_only = off")
    with pytest.raises((pg.InsufficientPrivilege, pg.ObjectNotInPrerequisiteState)):
        session.execute(statement)


def test_no_other_connection_can_be_made_from_inside(reader: Connect) -> None:
    session = reader("city")
    session.execute("set default_transaction_read_only = off")
    with pytest.raises((pg.InsufficientPrivilege, pg.FeatureNotSupported)):
        session.execute("create extension dblink")
    with pytest.raises(pg.UndefinedFunction):
        session.execute("select dblink('host=localhost', 'select 1')")


def test_a_reader_begins_read_only(reader: Connect) -> None:
    with pytest.raises(pg.ReadOnlySqlTransaction):
        reader("city").execute("create temporary table mine ()")


def test_row_security_set_off_refuses_instead_of_showing(reader: Connect) -> None:
    session = reader("city")
    session.execute("set row_security = off")
    with pytest.raises(pg.InsufficientPrivilege, match="row-level security"):
        session.execute("select * from verdict_history")


LEAKS = (
    "create function pg_temp.leak(value text) returns boolean language plpgsql cost 0.0000001 as"
    " $$ begin raise notice 'saw %', value; return true; end $$"
)


@pytest.mark.parametrize("view", ["report.verdict_history", "report.feedback", "report_parts.verdicts"])
def test_a_cheap_function_is_shown_no_row_before_the_policy_is(reader: Connect, view: str) -> None:
    session = reader("city")
    seen: list[str] = []
    session.add_notice_handler(lambda notice: seen.append(notice.message_primary or ""))
    session.execute("set default_transaction_read_only = off")
    session.execute(LEAKS)
    for query in (
        f"select 1 from {view} where pg_temp.leak(service) and tenant = 'rival'",
        f"select 1 from {view} as v where pg_temp.leak(v::text)",
        f"select 1 from {view} as v join {view} as w on pg_temp.leak(v::text || w::text)",
    ):
        session.execute(query)  # type: ignore[arg-type]
    assert any("help-desk" in message for message in seen)
    assert SECRET not in told(seen)


@pytest.mark.parametrize(
    "query",
    [
        "select 1 / case when service = 'RIVAL-SECRET' then 0 else 1 end from report.verdict_history",
        "select * from report.verdict_history where 1 / case when tenant = 'rival' then 0 else 1 end = 1",
        "select * from report.verdict_history order by 1 / case when tenant = 'rival' then 0 else 1 end",
        "select count(*) filter (where 1 / length(replace(tenant, 'rival', '')) = 1) from report.verdict_history",
    ],
)
def test_no_error_tells_of_a_row_that_is_not_seen(reader: Connect, postgres_url: str, query: LiteralString) -> None:
    with psycopg.connect(postgres_url) as owner, pytest.raises(pg.DivisionByZero):
        owner.execute(query)
    reader("city").execute(query)


@pytest.mark.parametrize("column", ["service::int", "answer::jsonb", "answer::timestamptz", "trace_id::uuid"])
def test_an_error_quotes_no_row_that_is_not_seen(reader: Connect, column: LiteralString) -> None:
    query = "select * from report.verdict_history where (" + column + ")::text is not null"
    with pytest.raises(psycopg.DatabaseError) as caught:
        reader("city").execute(query)
    assert SECRET not in f"{caught.value} {caught.value.diag.message_detail} {caught.value.diag.context}"


def test_explain_shows_no_row_that_is_not_seen(reader: Connect) -> None:
    session = reader("city")
    plan = session.execute("explain (analyze, verbose, settings, buffers) select * from report.verdict_history")
    assert SECRET not in told(plan)


def test_statistics_of_tables_are_not_shown(reader: Connect, postgres_url: str) -> None:
    query: LiteralString = "select * from pg_stats where schemaname in ('public', 'report', 'report_parts')"
    with psycopg.connect(postgres_url) as owner:
        assert SECRET in told(owner.execute(query))
    assert reader("city").execute(query).fetchall() == []


def test_no_estimate_depends_on_words_that_are_not_seen(filled: Engine, reader: Connect) -> None:
    session = reader("city")
    conditions: list[LiteralString] = [
        f"{column} {condition}"
        for column in ("answer", "question", "reasoning", "detail")
        for condition in ("< 'R'", "< 'RIVAL-M'", "< 'RIVAL-T'", "= 'RIVAL-SECRET?'", "< 'Z'")
    ]
    plans: dict[str, set[tuple[int, ...]]] = {}
    for condition in conditions:
        row = session.execute(
            "explain (format json) select 1 from report.verdict_history where " + condition
        ).fetchone()
        assert row is not None
        kind = condition.replace("'", " ").split()
        plans.setdefault(f"{kind[0]} {kind[1]}", set()).add(
            tuple(node["Plan Rows"] for node in _nodes(row[0][0]["Plan"]))
        )
    assert {name for name, estimates in plans.items() if len(estimates) > 1} == set()
    assert learned(filled) == set()


WORDS = {"question", "answer", "reasoning", "detail", "comment", "corrected_answer", "note", "last_error"}


def learned(engine: Engine) -> set[str]:
    """Columns of words that Postgres keeps statistics of."""
    with engine.connect() as connection:
        named = connection.scalars(text("select attname from pg_stats where schemaname = 'public'"))
        return WORDS & set(named)


def test_what_postgres_had_learned_of_words_it_forgets(filled: Engine, postgres_url: str) -> None:
    downgrade(postgres_url, "0021")
    with filled.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("analyze")
    assert learned(filled) >= {"question", "answer", "reasoning", "detail", "note"}
    upgrade(postgres_url)
    assert learned(filled) == set()
    with filled.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("select make_day(current_date + 4)")
        connection.exec_driver_sql(
            "insert into payloads select event_time + interval '4 days', tenant, trace_id, service,"
            " environment, question, documents, answer, generator_model, prompt_version, tags from payloads"
        )
        connection.exec_driver_sql("analyze")
    assert learned(filled) == set()


def test_other_ways_to_ask_show_the_same(reader: Connect) -> None:
    session = reader("city")
    with session.transaction():
        session.execute("declare c cursor with hold for select * from report.verdict_history")
        seen = session.execute("fetch all from c").fetchall()
    session.execute("prepare q as select * from report.verdict_history")
    for _ in range(7):  # the sixth has a plan for all values
        seen += session.execute("execute q").fetchall()
    with session.cursor().copy("copy (select * from report.verdict_history) to stdout") as copied:
        assert SECRET not in told(bytes(part) for part in copied)
    assert SECRET not in told(seen)
    assert len(seen) == 8 * 5


def test_names_of_a_readers_own_stand_for_nothing_of_ours(reader: Connect) -> None:
    session = reader("city")
    session.execute("set default_transaction_read_only = off")
    session.execute("create temporary table reader_tenants (role_name text, tenant text)")
    session.execute("insert into pg_temp.reader_tenants values (current_user, '*'), (current_user, 'rival')")
    session.execute("create temporary view own_tenants as select true as every, array['rival'] as tenants")
    session.execute("create temporary table verdicts (tenant text)")
    session.execute("create function pg_temp.whole_installation(boolean) returns boolean language sql as 'select true'")
    for path in ("pg_temp, report", "pg_temp, public, report", "report_parts, public"):
        session.execute(f"set search_path = {path}")  # type: ignore[arg-type]
        assert session.execute("select distinct tenant from report.verdict_history").fetchall() == [("city",)]
        rates = session.execute("select tenant from report.hallucination_rates(now() - interval '1 day', now())")
        assert rates.fetchall() == [("city",)]
        with pytest.raises(pg.InsufficientPrivilege):
            session.execute("select * from report.accounting")


# Time


def test_a_reader_is_stopped_at_its_time_by_postgres(reader: Connect) -> None:
    with pytest.raises(pg.QueryCanceled):
        reader("city", seconds=0.2).execute("select pg_sleep(200)")


def test_a_reader_that_sets_its_time_aside_is_stopped_by_the_watch(filled: Engine, reader: Connect) -> None:
    session = reader("city", seconds=0.2)
    session.execute("set statement_timeout = 0")
    other = reader("city")
    ended: list[BaseException] = []

    def stay() -> None:
        with pytest.raises(pg.QueryCanceled) as caught:
            session.execute("select pg_sleep(200)")
        ended.append(caught.value)

    thread = threading.Thread(target=stay)
    thread.start()
    watch = ReaderWatch(filled, pace=1.0)
    while not watch.step():
        thread.join(0.1)
    thread.join()
    assert ended
    assert stop_overlong(filled, pace=1.0) == []
    assert other.execute("select 1").fetchone() == (1,)


def _swallow(session: psycopg.Connection[Any]) -> None:
    session.execute(
        "do $$ begin loop begin perform pg_sleep(0.01), count(*) from report.verdict_history;"
        " exception when query_canceled then null; end; end loop; end $$"
    )


def _read_nothing(session: psycopg.Connection[Any]) -> None:
    session.pgconn.send_query(b"select repeat('x', 1000), generate_series(1, 100000000)")


def _call_by_the_fast_path(session: psycopg.Connection[Any]) -> None:
    row = session.execute("select 'pg_sleep(float8)'::regprocedure::oid::bigint").fetchone()
    assert row is not None
    body = struct.pack("!IHHHIdH", row[0], 1, 1, 1, 8, 200.0, 1)
    os.write(session.pgconn.socket, b"F" + struct.pack("!I", len(body) + 4) + body)


@pytest.mark.parametrize("run", [_swallow, _read_nothing, _call_by_the_fast_path])
def test_nothing_outlives_its_time_however_it_is_asked(
    filled: Engine, reader: Connect, run: Callable[[psycopg.Connection[Any]], None]
) -> None:
    session = reader("city", seconds=0.2)
    session.execute("set statement_timeout = 0")

    def stay() -> None:
        with suppress(psycopg.OperationalError):
            run(session)

    thread = threading.Thread(target=stay)
    thread.start()
    watch = ReaderWatch(filled, pace=0.5)
    state_of = text("select state from pg_stat_activity where pid = :pid")
    ended = 0
    with filled.connect().execution_options(isolation_level="AUTOCOMMIT") as owner:
        while owner.scalar(state_of, {"pid": session.info.backend_pid}) not in {None, *({"idle"} if ended else ())}:
            thread.join(0.05)
            ended += watch.step()
    thread.join()
    assert ended


# Writers


@contextmanager
def writer(engine: Engine, url: str, *tenants: str) -> Iterator[Engine]:
    name = f"w_{secrets.token_hex(4)}"
    # Workers load rows by COPY, which Postgres refuses where policies hold for the one who loads.
    attribute = "bypassrls" if "*" in tenants else ""
    with transaction(engine) as connection:
        connection.exec_driver_sql(f"create role {name} login {attribute}")
        connection.exec_driver_sql(f"grant groundwatch_writer to {name}")
        for tenant in tenants:
            connection.execute(
                text("insert into reader_tenants values (:name, :tenant)"), {"name": name, "tenant": tenant}
            )
    own = create_ledger_engine(PostgresSettings(url=SecretStr(as_user(url, name))))
    try:
        yield own
    finally:
        own.dispose()
        with transaction(engine) as connection:
            connection.exec_driver_sql(f"drop owned by {name}")  # temporary tables of a session that is about to end
            connection.exec_driver_sql(f"drop role {name}")


def test_a_writer_of_all_tenants_does_the_workers_work(filled: Engine, postgres_url: str) -> None:
    with writer(filled, postgres_url, "*") as own:
        assert Ledger(own).record([assessment(40, tenant="third", trace_id="w-1", escalated=True)]).verdicts == 1
        assert FeedbackBook(own).record([feedback("w-f", tenant="third", trace_id="w-1")]).recorded == 1
        assert recount(own) == []
        asked = {"since": NOON, "until": datetime.now(UTC), "skill_since": NOON}
        assert segment_rates(own, **asked) == segment_rates(filled, **asked) != []
        assert stop_overlong(own, pace=1.0) == []


def test_a_writer_of_one_tenant_can_write_no_others_rows(filled: Engine, postgres_url: str) -> None:
    put = (
        "insert into feedback (tenant, feedback_id, trace_id, given_at, source) values (:t, 'x', 'x', now(), 'system')"
    )
    with writer(filled, postgres_url, "city") as own:
        with transaction(own) as connection:
            connection.execute(text(put), {"t": "city"})
            assert set(connection.scalars(text("select tenant from feedback"))) == {"city"}
            assert connection.execute(text("delete from labels where tenant = 'rival'")).rowcount == 0
        with pytest.raises(LedgerUnavailable, match="row-level security"), transaction(own) as connection:
            connection.execute(text(put), {"t": "rival"})
        with pytest.raises(LedgerUnavailable, match="permission denied"), transaction(own) as connection:
            connection.execute(text("insert into reader_tenants values (current_user, '*')"))


# Nothing is forgotten


_UNCOVERED = """
select c.oid::regclass::text as name
from pg_class as c
where c.relnamespace in ('public'::regnamespace, 'report'::regnamespace, to_regnamespace('report_parts'))
    and not (c.relname = any (:own) and c.relnamespace = 'public'::regnamespace)
    and case c.relkind
        when 'v' then c.relowner <> 'groundwatch_views'::regrole
            or coalesce('security_invoker=true' = any (c.reloptions), false)
        when 'm' then true
        when 'f' then true
        when 'r' then not c.relispartition and not (c.relrowsecurity and exists (
            select from pg_policy where polrelid = c.oid and polname = 'tenancy'))
        when 'p' then not c.relispartition and not (c.relrowsecurity and exists (
            select from pg_policy where polrelid = c.oid and polname = 'tenancy'))
        else false
    end
"""
_OPEN = """
select c.oid::regclass::text as name
from pg_class as c
cross join unnest(array['groundwatch_reader', 'groundwatch_reader_all', 'public']) as who
where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relnamespace = 'public'::regnamespace
    and has_table_privilege(who, c.oid, 'select, insert, update, delete, truncate, references, trigger')
union all
select c.oid::regclass::text
from pg_class as c
cross join unnest(array['groundwatch_views', 'groundwatch_writer']) as who
where c.relispartition and has_table_privilege(who, c.oid, 'select, insert, update, delete')
union all
select oid::regprocedure::text from pg_proc
where prosecdef and pronamespace in ('public'::regnamespace, 'report'::regnamespace, to_regnamespace('report_parts'))
    and has_function_privilege('groundwatch_reader', oid, 'execute')
"""


def left_open(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        uncovered = connection.scalars(text(_UNCOVERED), {"own": list(OWN)}).all()
        return [*uncovered, *connection.scalars(text(_OPEN)).all()]


def test_every_table_view_and_function_is_covered(engine: Engine) -> None:
    assert left_open(engine) == []


def test_tables_to_come_are_covered_by_their_columns(engine: Engine, reader: Connect) -> None:
    with transaction(engine) as connection:
        release(connection)
        for statement in (
            SEGMENTS,
            SEGMENTS_OF_TWO,
            "create table to_come (segment_id integer, day date) partition by range (day)",
            "create table to_come_1 partition of to_come for values from ('2026-01-01') to ('2026-01-02')",
            "insert into to_come values (-1, '2026-01-01'), (-2, '2026-01-01')",
            (
                "create view came with (security_invoker) as"
                " select segments.tenant, day from to_come join segments using (segment_id)"
            ),
            "create view report.came as select * from came",
            "create function power_to_come() returns int security definer language sql as 'select 1'",
            "create table ranges_to_come (first bigint)",
            "insert into ranges_to_come values (1)",
            "create view report.ranges_to_come as select * from ranges_to_come",
        ):
            connection.exec_driver_sql(statement)
    assert {"to_come", "ranges_to_come", "came", "power_to_come()"} <= set(left_open(engine))
    with transaction(engine) as connection:
        assert covered_since(connection)
        protect(connection)
    assert left_open(engine) == []
    session = reader("city")
    assert session.execute("select tenant from report.came").fetchall() == [("city",)]
    with pytest.raises(pg.InsufficientPrivilege, match="whole installation"):
        session.execute("select * from report.ranges_to_come")
    with engine.connect() as connection:
        assert set(connection.scalars(text("select tenant from report.came"))) == {"city", "rival"}


def test_who_may_see_is_asked_once_a_query(reader: Connect) -> None:
    session = reader("city")
    query: LiteralString = "explain (analyze, format json) select * from report.verdict_history"
    row = session.execute(query).fetchone()
    assert row is not None
    asked = [node for node in _nodes(row[0][0]["Plan"]) if node.get("Relation Name") == "reader_tenants"]
    assert asked
    assert {node["Actual Loops"] for node in asked} <= {0, 1}


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


# Making and removing them


def test_a_readers_password_is_kept_as_a_scram_verifier(engine: Engine) -> None:
    name = f"r_{secrets.token_hex(4)}"
    add_reader(engine, name=name, tenants=["city", "city"], statement_seconds=2.5, password="correct horse battery")
    with engine.connect() as connection:
        kept = connection.scalar(text("select rolpassword from pg_authid where rolname = :name"), {"name": name})
    assert str(kept).startswith("SCRAM-SHA-256$4096:")
    (found,) = list_readers(engine)
    assert (found.name, found.tenants, found.statement_seconds) == (name, ("city",), 2.5)
    with pytest.raises(InvalidInput, match="there is a role"):
        add_reader(engine, name=name, tenants=["rival"], statement_seconds=1, password="correct horse battery")
    remove_reader(engine, name)
    assert list_readers(engine) == []
    with pytest.raises(InvalidInput, match="no reader"):
        remove_reader(engine, name)


@pytest.mark.parametrize(
    "name", ["", "A", 'x"; drop table verdicts; --', "pg_mine", "groundwatch_reader", "é", "x" * 64]
)
def test_a_name_that_is_none_is_refused(engine: Engine, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a reader's name"):
        add_reader(engine, name=name, tenants=["city"], statement_seconds=1, password="correct horse battery")


def test_a_reader_is_given_other_tenants_another_time_and_another_password(filled: Engine, reader: Connect) -> None:
    query: LiteralString = "select distinct tenant from verdict_history order by 1"
    session = reader("city")
    name = session.info.user
    change_reader(filled, name, tenants=["rival", "rival"])
    assert session.execute(query).fetchall() == [("rival",)]
    change_reader(filled, name, statement_seconds=7.5)
    (found,) = list_readers(filled)
    assert (found.tenants, found.statement_seconds) == (("rival",), 7.5)
    with pytest.raises(pg.AdminShutdown):
        session.execute("select 1")
    with filled.connect() as connection:
        of_role = text("select rolpassword from pg_authid where rolname = :name")
        settings = text(
            "select array_to_string(setconfig, ' ') from pg_db_role_setting where setrole = to_regrole(:name)"
        )
        assert "statement_timeout=7500ms" in str(connection.scalar(settings, {"name": name}))
        before = connection.scalar(of_role, {"name": name})
        change_reader(filled, name, password="another correct horse")
        after = connection.scalar(of_role, {"name": name})
    assert str(after).startswith("SCRAM-SHA-256$4096:")
    assert after != before
    with pytest.raises(InvalidInput, match="no reader"):
        change_reader(filled, "postgres", password="another correct horse")


def test_a_removed_readers_session_ends(filled: Engine, reader: Connect) -> None:
    session = reader("city")
    remove_reader(filled, session.info.user)
    with pytest.raises(pg.AdminShutdown):
        session.execute("select 1")


# Those who migrate


@pytest.fixture
def owner_without_power(
    migrated_template: str, empty_database: Callable[..., str], postgres_server: Any
) -> Iterator[Callable[[str], str]]:
    """Makes an owner of an empty database with these attributes; the cluster has our roles already."""
    made: list[tuple[str, str]] = []

    def make(attributes: str) -> str:
        name, database = f"o_{secrets.token_hex(4)}", f"t_{secrets.token_hex(6)}"
        url = empty_database(database)
        with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
            connection.execute(f"create role {name} login {attributes}")  # type: ignore[arg-type]
            connection.execute(f"alter database {database} owner to {name}")  # type: ignore[arg-type]
        made.append((name, database))
        return as_user(url, name)

    yield make
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        for name, database in made:
            connection.execute(f"drop database {database} with (force)")  # type: ignore[arg-type]
            connection.execute(f"drop role {name}")  # type: ignore[arg-type]


def test_an_owner_who_may_make_no_roles_is_told_what_a_superuser_runs(
    owner_without_power: Callable[[str], str], postgres_server: Any
) -> None:
    url = owner_without_power("")
    with pytest.raises(LedgerUnavailable, match="A superuser runs once: ") as caught:
        upgrade(url)
    assert check(url).current is None
    advice = str(caught.value).partition("A superuser runs once: ")[2]
    with psycopg.connect(postgres_server.url(), autocommit=True) as superuser:
        for statement in advice.split("; "):
            if not statement.startswith("create role"):  # they are there
                superuser.execute(statement)  # type: ignore[arg-type]
    assert upgrade(url).up_to_date
    engine = create_ledger_engine(PostgresSettings(url=SecretStr(url)))
    assert Ledger(engine).record([assessment(0)]).verdicts == 1
    with engine.connect() as connection:
        assert connection.scalar(text("select count(*) from report.verdict_history")) == 1
    with pytest.raises(LedgerUnavailable, match="permission denied"):
        add_reader(engine, name="nobody", tenants=["city"], statement_seconds=1, password="correct horse battery")
    engine.dispose()


def test_an_owner_who_may_make_roles_needs_no_superuser(
    owner_without_power: Callable[[str], str], postgres_server: Any
) -> None:
    url = owner_without_power("createrole")
    engine = create_ledger_engine(PostgresSettings(url=SecretStr(url)))
    name = url.partition("://")[2].partition("@")[0]
    with psycopg.connect(postgres_server.url(), autocommit=True) as superuser:
        for role in ROLES:  # as if it had made them
            superuser.execute(f"grant {role} to {name} with admin option, inherit false, set false")  # type: ignore[arg-type]
    assert upgrade(url).up_to_date
    Ledger(engine).record([assessment(0), assessment(1, tenant="rival")])
    reader = f"r_{secrets.token_hex(4)}"
    add_reader(engine, name=reader, tenants=["city"], statement_seconds=0.2, password="correct horse battery")
    with psycopg.connect(as_user(url, reader).replace(name, reader), autocommit=True) as session:
        assert session.execute("select tenant from verdict_history").fetchall() == [("city",)]
        session.execute("set statement_timeout = 0")
        thread = threading.Thread(target=_until_canceled, args=(session,))
        thread.start()
        while not stop_overlong(engine, pace=1.0):
            thread.join(0.1)
        thread.join()
    change_reader(engine, reader, tenants=["*"], statement_seconds=1, password="another correct horse")
    remove_reader(engine, reader)
    downgrade(url, "0016")
    assert upgrade(url).up_to_date
    engine.dispose()


def _until_canceled(session: psycopg.Connection[Any]) -> None:
    with pytest.raises(pg.QueryCanceled):
        session.execute("select pg_sleep(200)")


def test_the_views_role_must_have_no_power(engine: Engine) -> None:
    with engine.connect() as connection:
        powers = connection.execute(
            text(
                "select rolname from pg_roles where rolname like 'groundwatch%'"
                " and (rolsuper or rolbypassrls or rolcanlogin)"
            )
        ).all()
        assert powers == []
        assert connection.scalar(text("select 1 from pg_roles where rolname = :name"), {"name": VIEWS_ROLE}) == 1
