"""`groundwatch sql` and `groundwatch readers` on a real ledger, as a terminal and as a pipe would see them."""

import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text
from typer import Typer
from typer.testing import CliRunner

from monitor.cli import readers, sql
from monitor.config import PostgresSettings
from monitor.domain.errors import GroundwatchError, InvalidInput
from monitor.resources import resource
from monitor.storage.asking import Question, answering
from monitor.storage.feedback import FeedbackBook
from monitor.storage.ledger import Ledger
from tests.examples.assessments import NOON, assessment
from tests.examples.feedback import feedback

Run = Callable[..., tuple[int, str, str]]
SAVED = sorted(path.stem for path in resource("queries").glob("*.sql"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, postgres_url: str, tmp_path: Path) -> Run:
    """Runs a command; an error of ours is its message on stderr and exit code 1, as `main` has it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", postgres_url)
    app = Typer()
    app.callback()(lambda: None)
    sql.register(app)
    readers.register(app)

    def invoke(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        if isinstance(result.exception, GroundwatchError):
            return 1, result.stdout, str(result.exception)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return invoke


@pytest.fixture
def filled(engine: Engine, ledger: Ledger) -> None:
    an_hour_ago = (datetime.now(UTC) - NOON).total_seconds() - 3600
    ledger.record(
        [
            assessment(0, seconds_past_noon=an_hour_ago, probability=0.9),
            assessment(1, seconds_past_noon=an_hour_ago, probability=None),
            assessment(2, seconds_past_noon=an_hour_ago, tenant="rival", answer="One\nline, \x1b[31mred"),
        ]
    )
    FeedbackBook(engine).record([feedback("f", trace_id="t-0-0")])


@pytest.fixture
def reader(run: Run, postgres_url: str, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Iterator[str]:
    """A reader of `city` by whom `groundwatch sql` asks."""
    name = f"r_{secrets.token_hex(4)}"
    assert run("readers", "add", name, "--tenant", "city")[0] == 0
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__READER_URL", postgres_url.replace("postgres@", f"{name}@"))
    yield name
    run("readers", "remove", name)


# Asking


@pytest.mark.usefixtures("filled")
def test_a_pipe_gets_csv(run: Run) -> None:
    query = "select tenant, outcome, probability, tags from verdict_history order by tenant, trace_id"
    assert run("sql", query) == (
        0,
        (
            "tenant,outcome,probability,tags\n"
            'city,verdict,0.9,"{""release"": ""7""}"\n'
            'city,unjudged,,"{""release"": ""7""}"\n'
            'rival,verdict,0.25,"{""release"": ""7""}"\n'
        ),
        "",
    )


@pytest.mark.usefixtures("filled")
def test_json_is_one_object_a_line(run: Run) -> None:
    code, out, _ = run(
        "sql",
        "--json",
        "select 1.50::numeric as n, 10::numeric as ten, null as nothing, true as yes, 'nan'::float8 as nan,"
        " timestamptz '2026-01-01 00:00+02' as at, 'infinity'::timestamptz as ever, interval '1 month' as month,"
        " array[1.5::numeric] as list, '{\"a\": [1]}'::jsonb as json, '\\x00ff'::bytea as raw",
    )
    assert code == 0
    assert json.loads(out) == {
        "n": 1.5,
        "ten": 10,
        "nothing": None,
        "yes": True,
        "nan": "nan",
        "at": "2025-12-31 22:00:00+00",
        "ever": "infinity",
        "month": "1 mon",
        "list": [1.5],
        "json": {"a": [1]},
        "raw": "\\x00ff",
    }
    assert "tell them apart" in run("sql", "--json", "select 1 as a, 2 as a")[2]


@pytest.mark.usefixtures("filled")
def test_a_terminal_gets_a_table_that_it_need_not_obey(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_on_terminal", lambda: True)
    code, out, err = run("sql", "select tenant, answer from verdict_history where tenant = 'rival'")
    assert code == 0
    assert [line.rstrip() for line in out.splitlines()] == ["tenant   answer", "rival    One line,  [31mred"]
    assert err == "1 row\n"


@pytest.mark.parametrize("on_terminal", [True, False])
def test_what_a_terminal_would_obey_reaches_none(
    run: Run, monkeypatch: pytest.MonkeyPatch, *, on_terminal: bool
) -> None:
    monkeypatch.setattr(sql, "_on_terminal", lambda: on_terminal)
    hostile = "a\x1b[31mb\x9bc\u202ed"
    query = "select :it::text as it"
    code, out, _ = run("sql", "--json", query, "--param", f"it={hostile}")
    assert (code, out) == (0, '{"it": "a\\u001b[31mb\\u009bc\\u202ed"}\n')
    assert json.loads(out) == {"it": hostile}
    shown = "a [31mb c d" if on_terminal else hostile
    assert run("sql", "--csv", query, "--param", f"it={hostile}")[1] == f"it\n{shown}\n"
    said = run("sql", "select :it::text::int as it", "--param", f"it={hostile}")[2]
    assert said == 'invalid input syntax for type integer: "a [31mb c d"'


def test_a_query_without_rows_still_has_columns(run: Run) -> None:
    assert run("sql", "select trace_id, label from verdict_history") == (0, "trace_id,label\n", "")
    assert run("sql", "--json", "select trace_id from verdict_history") == (0, "", "")


def test_what_is_cut_is_told(run: Run) -> None:
    many = "select n from generate_series(1, 5) as n"
    code, out, err = run("sql", "--max-rows", "3", many)
    assert (code, out, err) == (0, "n\n1\n2\n3\n", "cut after 3 rows: there are more (--max-rows)\n")
    assert run("sql", "--max-rows", "5", many)[2] == ""


def test_many_rows_are_streamed(postgres_url: str) -> None:
    settings = PostgresSettings(url=SecretStr(postgres_url))
    # As text they would be 200 GB: that the first ones come at all shows that nobody waits for the last.
    question = Question(sql="select repeat('x', 1000), generate_series(1, 200000000)")
    with answering(settings, question) as answer:
        assert [next(answer.rows)[1] for _ in range(2000)] == list(range(1, 2001))


def test_the_query_may_come_from_a_file_or_standard_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("select 7 as n;\n-- done\n")
    assert run("sql", "--file", str(tmp_path / "q.sql"))[1] == "n\n7\n"
    assert run("sql", "-", stdin="select 8 as n")[1] == "n\n8\n"
    assert "no-such" in run("sql", "--file", "no-such.sql")[2]
    assert run("sql")[2].startswith("give a query, --file or --saved")
    assert run("sql", "select 1", "--saved", "coverage")[2].startswith("give a query, --file or --saved")


def test_parameters_are_values_and_never_sql(run: Run) -> None:
    query = "select :a::text as a, ':a' as text, '1'::int as cast, (array[1, 2])[1:2] as part -- :a"
    assert run("sql", query, "--param", "a=x'; drop table verdicts") == (
        0,
        'a,text,cast,part\nx\'; drop table verdicts,:a,1,"[1, 2]"\n',
        "",
    )
    assert "NAME=VALUE" in run("sql", query, "--param", "a")[2]
    assert run("sql", "select ':b', 1", "--param", "b=1")[2] == "--param b: there is no :b in the query"
    assert run("sql", "select 1,\n  :b::int")[2].endswith("  ^\nhint: :b stands for a value; give it with --param b=…")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "select\n  nothing from verdict_history",
            r'column "nothing" does not exist, at line 2, column 3:\n    nothing',
        ),
        ("select * from\n", r"syntax error at end of input, at line 2, column 1:\n  \n  \^"),
        ("select '\v', '\f', '\u2028',\n  nothing", r"at line 2, column 3:\n    nothing"),
        ("selec 1", r'syntax error at or near "selec", at line 1, column 1:\n  selec 1\n  \^'),
        ("select * from verdicts", r"(?s)does not exist.*views of the schema report"),
        ("select * from public.verdicts", "permission denied"),
        ("select 1; select 2", "cannot insert multiple commands"),
        ("delete from verdict_history returning 1", "read-only transaction|permission denied|cannot delete"),
        ("delete from verdict_history", "cannot delete|no query"),
        ("create table report.x ()", "no query"),
        ("select set_config('transaction_read_only', 'off', true)", "read-write"),
        ("copy (select 1) to stdout", "no query"),
        ("", "no query"),
        ("copy (select 1) to program 'id'", "no query"),
        ("select 'a\0b'", "a NUL"),
        ("set role none", "no query"),
        ("select 1 / 0 as a", "division by zero"),
    ],
)
def test_a_refused_query_says_where_and_why(run: Run, query: str, said: str) -> None:
    code, out, err = run("sql", query)
    assert (code, out) == (1, "")
    assert re.search(said, err), err


def test_a_query_is_stopped_at_its_time(run: Run) -> None:
    code, _, err = run("sql", "--timeout", "1s", "select set_config('statement_timeout', '0', true), pg_sleep(200)")
    assert (code, err) == (1, "stopped after 1 s: ask for less, or give it longer with --timeout")
    assert "no time such as" in run("sql", "--timeout", "soon", "select 1")[2]


def test_a_query_whose_rows_nobody_takes_ends_in_postgres_too(engine: Engine, postgres_url: str) -> None:
    settings = PostgresSettings(url=SecretStr(postgres_url))
    question = Question(sql="select repeat('x', 1000), generate_series(1, 200000000)", timeout_seconds=0.2)
    there = text("select count(*) from pg_stat_activity where application_name = 'groundwatch sql' and datname = :name")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as owner:
        named = {"name": engine.url.database}

        def read_late() -> None:
            with answering(settings, question) as answer:
                assert owner.scalar(there, named) == 1
                while owner.scalar(there, named):
                    pass
                for _ in answer.rows:
                    pass

        with pytest.raises(InvalidInput, match=r"stopped after 0.2 s"):
            read_late()


@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
def test_who_ended_a_query_before_its_time_is_said(engine: Engine, postgres_url: str, end: str) -> None:
    settings = PostgresSettings(url=SecretStr(postgres_url))
    endless = text(
        f"select {end}(pid) from pg_stat_activity where datname = current_database() and query like '%pg_sleep(200)%'"
        " and pid <> pg_backend_pid() and state = 'active'"
    )
    caught: list[str] = []

    def ask() -> None:
        with pytest.raises(InvalidInput) as error, answering(settings, Question(sql="select pg_sleep(200)")):
            pass
        caught.append(str(error.value))

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive():
        with engine.begin() as owner:
            owner.execute(endless)
        thread.join(0.1)
    assert "by the watch over readers" in caught[0]
    assert "--timeout" in caught[0]


def test_explain_may_be_asked(run: Run) -> None:
    assert "Result" in run("sql", "explain select 1")[1]


def test_a_postgres_that_is_away_is_said_to_be(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__READER_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert run("sql", "select 1")[0] == 1
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__READER_URL", "nonsense")
    assert run("sql", "select 1")[2].startswith("postgres.reader_url: not a URL")


# As whom


@pytest.mark.usefixtures("filled")
def test_without_a_reader_all_tenants_are_seen_and_one_may_be_chosen(run: Run) -> None:
    query = "select distinct tenant from verdict_history order by 1"
    assert run("sql", query)[1] == "tenant\ncity\nrival\n"
    assert run("sql", query, "--tenant", "rival")[1] == "tenant\nrival\n"
    assert run("sql", "select current_user")[1] == "current_user\ngroundwatch_reader_all\n"


@pytest.mark.usefixtures("filled")
def test_a_reader_sees_its_own_whatever_it_asks_for(run: Run, reader: str) -> None:
    query = "select distinct tenant from verdict_history order by 1"
    assert run("sql", query)[1] == "tenant\ncity\n"
    assert run("sql", query, "--tenant", "rival")[1] == "tenant\n"
    assert run("sql", "select current_user")[1] == f"current_user\n{reader}\n"
    code, _, err = run("sql", "--saved", "accounting")
    assert code == 1
    assert "hint: Ask as a reader of all tenants" in err


STEP_OUT = (
    "select set_config('role', 'none', true),"
    " (select count(*) from ts_stat($$select to_tsvector('simple', tenant) from public.reader_tenants$$)) as words"
)


def test_without_a_reader_the_role_holds_off_mistakes_and_not_people(run: Run) -> None:
    assert "permission denied" in run("sql", "select * from public.reader_tenants")[2]
    # As the guide says.
    assert run("sql", STEP_OUT)[0] == 0


@pytest.mark.usefixtures("filled", "reader")
def test_a_reader_has_nothing_to_step_out_to(run: Run) -> None:
    code, out, err = run("sql", STEP_OUT)
    assert (code, out) == (1, "")
    assert "permission denied for table reader_tenants" in err


# Saved queries


def test_there_are_enough_saved_queries_and_each_says_what_it_answers(run: Run) -> None:
    assert len(SAVED) >= 10
    code, out, _ = run("sql", "--list", "--json")
    listed = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [one["name"] for one in listed] == SAVED
    assert all(one["title"].endswith("?") for one in listed)
    assert "--param since=24h ago   from when on" in run("sql", "--list")[1]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", SAVED)
def test_every_saved_query_runs_for_all_and_for_one_tenant(run: Run, name: str) -> None:
    given = ["--param", "trace_id=t-0-0"] if name == "evidence" else []
    for more in ([], ["--tenant", "city"]):
        if name == "accounting" and more:
            continue
        code, out, err = run("sql", "--saved", name, *given, *more)
        assert (code, err) == (0, ""), err
        assert "rival" not in out or not more


@pytest.mark.usefixtures("filled")
def test_saved_queries_answer(run: Run) -> None:
    said = [
        json.loads(line)
        for line in run("sql", "--saved", "evidence", "--param", "trace_id=t-0-0", "--json")[1].splitlines()
    ]
    assert [(one["label"], one["unsupported"], one["nearest"]) for one in said] == [("hallucinated", "At te", "he ")]
    rates = run("sql", "--saved", "rates-by-hour", "--json", "--tenant", "city")[1]
    assert json.loads(rates)["hallucinated"] == 1
    assert json.loads(run("sql", "--saved", "unjudged-reasons", "--json")[1])["traces"] == 1
    assert run("sql", "--saved", "rates-by-hour", "--param", "service=none")[1].count("\n") == 1


def test_a_saved_query_says_what_it_takes(run: Run) -> None:
    assert run("sql", "--saved", "evidence")[2] == "evidence: needs --param trace_id=…"
    assert "it takes trace_id" in run("sql", "--saved", "evidence", "--param", "id=1")[2]
    assert "no saved query" in run("sql", "--saved", "nothing")[2]
    assert "invalid input syntax" in run("sql", "--saved", "coverage", "--param", "since=soon")[2]


def test_ones_own_saved_queries_are_found_first(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__SAVED_QUERIES", str(own))
    (own / "coverage.sql").write_text("-- What is mine?\n-- :n = 3: a number\nselect :n::int as mine")
    assert run("sql", "--saved", "coverage")[1] == "mine\n3\n"
    (own / "bare.sql").write_text("select 1")
    assert "begins with no line" in run("sql", "--list")[2]
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__SAVED_QUERIES", str(own / "none"))
    assert "is no folder" in run("sql", "--list")[2]


# Readers


def test_readers_are_made_listed_and_removed(run: Run, engine: Engine) -> None:
    name, other = f"r_{secrets.token_hex(4)}", f"s_{secrets.token_hex(4)}"
    code, out, err = run("readers", "add", name, "--tenant", "city", "--tenant", "town", "--timeout", "1m")
    assert code == 0
    assert len(out.strip()) > 40
    assert "reads city, town" in err
    code, out, _ = run(
        "readers", "add", other, "--all-tenants", "--password-stdin", "--json", stdin="correct horse battery\n"
    )
    assert json.loads(out) == {"name": other, "tenants": ["*"], "timeout_seconds": 30.0, "password": None}
    listed = [json.loads(line) for line in run("readers", "list", "--json")[1].splitlines()]
    assert [(one["name"], one["tenants"], one["timeout_seconds"]) for one in listed] == [
        (name, ["city", "town"], 60.0),
        (other, ["*"], 30.0),
    ]
    assert re.search(rf"{other} +all +\d.* +30 s", run("readers", "list")[1])
    assert run("readers", "remove", name)[0] == 0
    assert json.loads(run("readers", "remove", other, "--json")[1]) == {"name": other, "removed": True}
    assert run("readers", "list")[1] == ""


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        ((), "", "--all-tenants; one of the two"),
        (("--tenant", "a", "--all-tenants"), "", "one of the two"),
        (("--tenant", "*"), "", "are no tenants"),
        (("--tenant", "a", "--timeout", "0s"), "", "longer than nothing"),
        (("--tenant", "a", "--password-stdin"), "short\n", "shorter than 12"),
    ],
)
def test_a_reader_that_makes_no_sense_is_refused(run: Run, arguments: tuple[str, ...], stdin: str, said: str) -> None:
    code, out, err = run("readers", "add", "somebody", *arguments, stdin=stdin)
    assert (code, out) == (1, "")
    assert said in err


def test_a_readers_password_tenants_and_time_change(run: Run) -> None:
    name = f"r_{secrets.token_hex(4)}"
    first = run("readers", "add", name, "--tenant", "city")[1]
    code, second, err = run("readers", "change", name, "--new-password")
    assert (code, err) == (0, f"{name} is changed\n")
    assert len(second.strip()) > 40
    assert second != first
    said = run("readers", "change", name, "--all-tenants", "--timeout", "1m", "--json")[1]
    assert json.loads(said) == {"name": name, "tenants": ["*"], "timeout_seconds": 60.0}
    said = run("readers", "change", name, "--password-stdin", "--json", stdin="correct horse battery\n")[1]
    assert json.loads(said) == {"name": name}
    listed = json.loads(run("readers", "list", "--json")[1])
    assert (listed["tenants"], listed["timeout_seconds"]) == (["*"], 60.0)
    assert run("readers", "change", name)[2].startswith("name what changes")
    assert "one of the two" in run("readers", "change", name, "--tenant", "a", "--all-tenants")[2]
    assert "one of the two" in run("readers", "change", name, "--new-password", "--password-stdin")[2]
    assert "no reader" in run("readers", "change", "nobody", "--timeout", "1s")[2]
    assert run("readers", "remove", name)[0] == 0


def test_the_password_lets_in_over_scram(run: Run, postgres_url: str) -> None:
    name = f"r_{secrets.token_hex(4)}"
    run("readers", "add", name, "--tenant", "city", "--password-stdin", stdin="correct horse battery\n")
    with psycopg.connect(postgres_url) as owner:
        row = owner.execute("select rolpassword from pg_authid where rolname = %s", (name,)).fetchone()
        assert row is not None
        assert "correct horse" not in row[0]
        assert row[0].startswith("SCRAM-SHA-256$")
    run("readers", "remove", name)
