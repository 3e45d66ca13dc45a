"""`groundwatch alerts` on a real ledger."""

import getpass
import json
from pathlib import Path

import pytest
import typer
from click.testing import Result
from sqlalchemy import Engine, select
from typer.testing import CliRunner

from monitor.alerts.targets import TargetRefused
from monitor.cli import alerts
from monitor.domain.errors import InvalidInput
from monitor.storage.alerts import raise_alert
from monitor.storage.engine import transaction
from monitor.storage.tables import alert_transitions
from tests.examples.alerts import alert


@pytest.fixture
def app(postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> typer.Typer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", postgres_url)
    app = typer.Typer()
    alerts.register(app)
    return app


def invoke(app: typer.Typer, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["alerts", *arguments], input=stdin, env={"COLUMNS": "250"})


def test_a_subscription_comes_and_goes_and_never_shows_its_secret(app: typer.Typer) -> None:
    made = invoke(
        app, "subscribe", "https://example.org/hook", "--tenant", "acme", "--secret-file", "-", stdin="s3cret\n"
    )
    identifier = made.stdout.strip()
    (listed,) = [json.loads(line) for line in invoke(app, "subscriptions", "--json").stdout.splitlines()]
    assert (listed["subscription_id"], listed["tenant"], listed["signed"]) == (identifier, "acme", True)
    table = invoke(app, "subscriptions").stdout
    assert "https://example.org/hook" in table
    assert "s3cret" not in table + json.dumps(listed)
    assert invoke(app, "unsubscribe", identifier).exit_code == 0
    assert isinstance(invoke(app, "unsubscribe", identifier).exception, InvalidInput)
    assert invoke(app, "subscriptions", "--json").stdout == ""


def test_a_url_that_could_never_be_posted_to_is_refused_at_once(app: typer.Typer) -> None:
    assert isinstance(invoke(app, "subscribe", "file:///etc/passwd").exception, TargetRefused)
    assert invoke(app, "subscriptions", "--json").stdout == ""


def test_an_alert_is_acknowledged_then_resolved_and_stays_so(app: typer.Typer, engine: Engine) -> None:
    with transaction(engine) as connection:
        raise_alert(connection, alert("a-1"))
    assert invoke(app, "ack", "a-1", "--note", "on it", "--actor", "Ada").stdout == "a-1 is acknowledged\n"
    assert invoke(app, "resolve", "a-1").stdout == "a-1 is resolved\n"
    assert invoke(app, "ack", "a-1").stdout == "a-1 is resolved\n"
    with transaction(engine) as connection:
        columns = alert_transitions.c["to_state", "actor", "note"]
        noted = [tuple(row) for row in connection.execute(select(columns).order_by(alert_transitions.c.id))]
    assert noted == [("firing", "drift", ""), ("acknowledged", "Ada", "on it"), ("resolved", getpass.getuser(), "")]
    assert isinstance(invoke(app, "ack", "nobody").exception, InvalidInput)


def test_no_alerts_is_an_empty_list(app: typer.Typer) -> None:
    assert invoke(app, "list", "--json").stdout == ""
    assert invoke(app, "list", "--state", "firing").exit_code == 0
