from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from monitor.cli.main import app
from monitor.cli.moments import moment
from monitor.cli.replay import _user
from monitor.domain.errors import InvalidInput
from workers.main import main

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)
run = CliRunner()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T12:30", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        ("2026-03-01T12:30:00+02:00", datetime(2026, 3, 1, 10, 30, tzinfo=UTC)),
        ("7d", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("1d12h", datetime(2026, 3, 7, 0, tzinfo=UTC)),
        (None, None),
    ],
)
def test_times_as_people_write_them(written: str | None, meant: datetime | None) -> None:
    assert moment(written, "--since", now=NOW) == meant


@pytest.mark.parametrize("written", ["", "yesterday", "2026-13-01", "999999d", "0001-01-01T00:00:00+05:00", "7"])
def test_what_is_no_time_is_named(written: str) -> None:
    with pytest.raises(InvalidInput, match=r"^--until: "):
        moment(written, "--until", now=NOW)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--unjudged", "--dead-letters"], "two replays"),
        (["--reason", "timeout"], "--reason goes with --unjudged or --dead-letters"),
        (["--unjudged", "--reason", "not_json"], "'not_json' is none of "),
        (["--dead-letters", "--reason", "timeout"], "'timeout' is none of not_json, "),
        (["--dead-letters", "--tenant", "city"], "--dead-letters goes without"),
        (["--since", "2026-03-02", "--until", "2026-03-01"], "nothing to replay"),
        (["--judge-version", "cascade@12"], "--judge-version: 'cascade@12' is none"),
        (["--judge-version", "cascade@0123456789AB"], "twelve hexadecimal digits"),
        (["--judge-version", "cascade@0123456789ab\n"], "twelve hexadecimal digits"),
        (["--judge-version", ""], "twelve hexadecimal digits"),
    ],
)
def test_selections_that_make_no_sense_are_refused_before_anything_is_begun(arguments: list[str], problem: str) -> None:
    done = run.invoke(app, ["replay", "start", *arguments])
    assert done.exit_code == 1
    assert isinstance(done.exception, InvalidInput)
    assert problem in str(done.exception)


@pytest.mark.parametrize("command", ["start", "resume", "stop", "status", "report", "version"])
def test_every_replay_command_explains_itself(command: str) -> None:
    done = run.invoke(app, ["replay", command, "--help"])
    assert done.exit_code == 0


def test_a_user_without_a_name_is_named_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    # As in a container that runs as a user its password file does not know.
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    assert _user() == "uid 4000000"


def test_only_judges_work_on_replays(capsys: pytest.CaptureFixture[Any]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ledger", "--replays"])
    assert ended.value.code == 2
    assert "--replays goes with judge" in capsys.readouterr().err
