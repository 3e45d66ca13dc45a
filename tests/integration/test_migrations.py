"""Migrations on a real Postgres: they make the tables that the code expects, once, whoever else is at it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg import errors
from pydantic import SecretStr
from typer import Typer
from typer.testing import CliRunner

from monitor.cli.migrate import register
from monitor.config import PostgresSettings
from monitor.domain.errors import LedgerUnavailable
from monitor.storage.engine import create_ledger_engine
from monitor.storage.feedback import FeedbackBook
from monitor.storage.ledger import Ledger
from monitor.storage.migrate import await_migration, check, downgrade, upgrade
from monitor.storage.recount import recount
from monitor.storage.tables import metadata
from monitor.storage.tending import due_alerts
from tests.examples.alerts import RULES
from tests.examples.assessments import assessment
from tests.examples.feedback import feedback

Databases = Callable[[], str]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    app = Typer()
    app.callback()(lambda: None)
    register(app)

    def run(url: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", url)
        result = CliRunner().invoke(app, ["migrate", *arguments])
        return result.exit_code, result.stdout, result.stderr

    return run


def test_the_migrations_make_the_tables_that_the_code_expects(postgres_url: str) -> None:
    engine = create_ledger_engine(PostgresSettings(url=SecretStr(postgres_url)))
    with engine.connect() as connection:
        # A day's partition is no table of its own.
        named = {"include_name": lambda name, kind, _: kind != "table" or not re.search(r"_(before|\d{8})$", name)}
        context = MigrationContext.configure(connection, opts={"compare_server_default": True, **named})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_database_is_empty_then_up_to_date(empty_database: Databases) -> None:
    url = empty_database()
    before = check(url)
    assert (before.current, before.up_to_date) == (None, False)
    assert before.pending[-1] == before.head
    after = upgrade(url)
    assert (after.current, after.pending) == (before.head, ())
    assert upgrade(url) == after == check(url)


def test_many_migrators_at_once_migrate_once(empty_database: Databases) -> None:
    url = empty_database()
    script = "import sys; from monitor.storage.migrate import upgrade; sys.exit(not upgrade(sys.argv[1]).up_to_date)"
    hosts = [subprocess.Popen([sys.executable, "-c", script, url]) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(lambda _: upgrade(url), range(2)))
    assert all(state.up_to_date for state in states)
    assert [host.wait(60) for host in hosts] == [0, 0]


def test_every_migration_goes_down_and_up_again_with_data(empty_database: Databases) -> None:
    url = empty_database()
    steps = check(url).pending
    upgrade(url)
    engine = create_ledger_engine(PostgresSettings(url=SecretStr(url)))
    Ledger(engine).record([assessment(0, escalated=True)])
    FeedbackBook(engine).record([feedback("f-1", trace_id="t-0-0")])
    for step in reversed((None, *steps[:-1])):
        assert downgrade(url, step or "base").current == step
    assert upgrade(url).up_to_date
    assert Ledger(engine).record([assessment(0)]).verdicts == 1
    assert recount(engine) == []
    engine.dispose()


def test_receipts_of_the_release_before_become_ranges(empty_database: Databases) -> None:
    url = empty_database()
    upgrade(url)
    downgrade(url, "0016")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into receipts select 't', 0, n, case when n % 7 = 0 then 'duplicate' else 'dead_letter' end,"
            " null, null from generate_series(5, 6000) as n where n not in (99, 100, 3000)"
        )
        before = connection.execute('select "offset", outcome from receipts order by 1').fetchall()
        upgrade(url)
        assert connection.execute('select "offset", outcome from receipts order by 1').fetchall() == before
        downgrade(url, "0016")
        assert connection.execute('select "offset", outcome from receipts order by 1').fetchall() == before


def test_alerts_of_the_release_before_owe_no_one_a_word(postgres_url: str) -> None:
    engine = create_ledger_engine(PostgresSettings(url=SecretStr(postgres_url)))
    downgrade(postgres_url, "0007")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for state in ("firing", "acknowledged", "resolved"):
            connection.execute(_OLD_ALERT, (f"before-{state}", state))
        upgrade(postgres_url)
        # It goes on writing while the new release comes.
        connection.execute(_OLD_ALERT, ("after", "firing"))
        assert due_alerts(engine, RULES) == []
        connection.execute("update alerts set state = 'pending' where alert_id = 'after'")
    assert downgrade(postgres_url, "0007").current == "0007"
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("select state from alerts where alert_id = 'after'").fetchone() == ("firing",)
    engine.dispose()


_OLD_ALERT = """
insert into alerts (alert_id, tenant, service, environment, evaluator, judge_version, state, direction, event_time,
    change_at, evidence, rate_before, rate_after, verdicts_seen, delay_verdicts, average_run_length, raised_at)
values (%s, 'city', 'desk', 'production', 'faithfulness', 'v', %s, 'rise', now(), now(), 10, 0.1, 0.3, 9, 9, 9, now())
"""


def test_a_database_of_a_newer_release_is_left_alone(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("update alembic_version set version_num = 'from-the-future'")
    for state in (check(postgres_url), upgrade(postgres_url)):
        assert (state.current, state.known, state.up_to_date) == ("from-the-future", False, True)


def test_a_migration_that_cannot_have_its_lock_changes_nothing(postgres_url: str) -> None:
    downgrade(postgres_url, "0001")
    with psycopg.connect(postgres_url) as writer:
        writer.execute("create schema report")
        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            upgrade(postgres_url)
        writer.rollback()
    assert check(postgres_url).current == "0001"
    assert upgrade(postgres_url).up_to_date


def test_a_postgres_that_is_away_is_unavailable() -> None:
    with pytest.raises(LedgerUnavailable):
        check("postgresql://nobody@127.0.0.1:1/none")


def test_the_tables_hold_what_the_code_promises(postgres_url: str) -> None:
    with (
        psycopg.connect(postgres_url) as connection,
        pytest.raises(errors.CheckViolation, match="ck_receipt_ranges_outcomes"),
    ):
        connection.execute("insert into receipt_ranges values (1, 0, 0, 'f')")


def test_a_check_changes_nothing(empty_database: Databases) -> None:
    url = empty_database()
    with psycopg.connect(url, autocommit=True) as connection:
        tables = "select count(*) from pg_class where relnamespace not in (%s::regnamespace, %s::regnamespace)"
        before = connection.execute(tables, ("pg_catalog", "information_schema")).fetchone()
        assert not await_migration(url, seconds=0).up_to_date
        assert connection.execute(tables, ("pg_catalog", "information_schema")).fetchone() == before


def test_the_command_waits_for_somebody_who_migrates(
    empty_database: Databases, cli: Callable[..., tuple[int, str, str]]
) -> None:
    url = empty_database()
    with ThreadPoolExecutor(1) as pool:
        migrated = pool.submit(upgrade, url)
        code, _, err = cli(url, "--check", "--wait", "300")
        assert (code, migrated.result().up_to_date) == (0, True)
    assert "up to date" in err
    downgrade(url, "0016")
    code, out, err = cli(url, "--check", "--wait", "0.2")
    assert (code, out) == (1, "")
    assert "is at 0016; pending: 0017" in err
    code, out, _ = cli(url, "--check", "--json")
    said = json.loads(out)
    assert (code, said["current"], said["pending"][-1], said["up_to_date"]) == (1, "0016", said["head"], False)


def test_the_command_names_a_postgres_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["--check", "--json"], ["--check", "--json", "--wait", "0.1"]):
        code, out, err = as_a_process(monkeypatch, "postgresql://nobody@127.0.0.1:1/none", *arguments)
        said = json.loads(out)
        assert (code, said["up_to_date"]) == (1, False)
        assert "127.0.0.1" in said["error"]
        assert said["error"] in err


def test_only_a_check_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = as_a_process(monkeypatch, "postgresql://nobody@127.0.0.1:1/none", "--wait", "5")
    assert code == 2
    assert "only --check waits" in err


def as_a_process(monkeypatch: pytest.MonkeyPatch, url: str, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", url)
    command = [sys.executable, "-c", "from monitor.cli.main import main; main()", "migrate", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_the_command_migrates_and_says_so(empty_database: Databases, cli: Callable[..., tuple[int, str, str]]) -> None:
    url = empty_database()
    code, out, err = cli(url, "--check")
    assert (code, out) == (1, "")
    assert "pending: 0001" in err
    code, out, _ = cli(url, "--json")
    said = json.loads(out)
    assert (code, said["up_to_date"], said["applied"][0], said["pending"]) == (0, True, "0001", [])
    code, out, err = cli(url)
    assert (code, out) == (0, "")
    assert "up to date" in err
    code, out, _ = cli(url, "--check", "--json")
    assert (code, json.loads(out)["applied"]) == (0, [])
