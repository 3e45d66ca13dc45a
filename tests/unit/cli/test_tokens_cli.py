import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monitor.cli.tokens import tokens
from monitor.domain.errors import InvalidInput, InvalidSettings
from monitor.ingest.token_gate import TokenGate

RUNNER = CliRunner()


def ran(*arguments: str) -> str:
    result = RUNNER.invoke(tokens, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> str:
    with pytest.raises((InvalidInput, InvalidSettings)) as raised:
        RUNNER.invoke(tokens, arguments, catch_exceptions=False)
    return str(raised.value)


def test_a_new_token_is_shown_once_and_lets_in(tmp_path: Path) -> None:
    file = str(tmp_path / "tokens.json")
    secret = ran("new", "ci", "--tenant", "acme", "--expires", "90d", "--file", file).strip()

    assert TokenGate(Path(file)).admit(f"Bearer {secret}").tenant == "acme"
    listed = ran("list", "--file", file, "--json")
    (one,) = map(json.loads, listed.splitlines())
    assert (one["name"], one["tenant"], one["holds"]) == ("ci", "acme", True)
    ends = datetime.fromisoformat(one["expires"]) - datetime.now(UTC)
    assert timedelta(days=89) < ends < timedelta(days=90)
    assert secret not in listed
    assert "ci" in ran("list", "--file", file)


def test_rotation_keeps_the_old_token_until_it_is_expired(tmp_path: Path) -> None:
    file = str(tmp_path / "tokens.json")
    ran("new", "ci-1", "--file", file)
    ran("new", "ci-2", "--file", file)
    ran("expire", "ci-1", "--in", "7d", "--file", file)
    assert [json.loads(line)["holds"] for line in ran("list", "--file", file, "--json").splitlines()] == [True, True]
    ran("expire", "ci-1", "--file", file)
    assert [json.loads(line)["holds"] for line in ran("list", "--file", file, "--json").splitlines()] == [False, True]


def test_what_cannot_be_done_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(tmp_path / "tokens.json")
    ran("new", "ci", "--file", file)
    assert "another name" in refused("new", "ci", "--file", file)
    assert "tokens.1.tenant" in refused("new", "other", "--tenant", "two words", "--file", file)
    assert "--expires" in refused("new", "other", "--expires", "soon", "--file", file)
    assert "no token named 'nobody'" in refused("expire", "nobody", "--file", file)
    assert "access.tokens_file" in refused("list")
    assert "No such file" in refused("list", "--file", str(tmp_path / "absent.json"))
    assert len(ran("list", "--file", file, "--json").splitlines()) == 1
