"""`groundwatch alerts` on a real ledger."""

import getpass
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from click.testing import Result
from sqlalchemy import Engine, select
from typer.testing import CliRunner

from monitor.alerts.sealing import Destination, Sealer
from monitor.alerts.targets import TargetRefused
from monitor.alerts.webhook import NotDelivered, signature
from monitor.cli import alerts
from monitor.domain.alert import Severity
from monitor.domain.errors import InvalidInput, InvalidSettings
from monitor.storage.alerts import raise_alert
from monitor.storage.engine import transaction
from monitor.storage.outbox import claim_deliveries, mark_failed
from monitor.storage.silences import find_silences
from monitor.storage.subscriptions import find_subscriptions
from monitor.storage.tables import alert_transitions, outbox, subscriptions
from tests.examples.alerts import KEYS, alert, subscribed
from tests.support.receivers import Receiver, serving
from tests.support.webhooks import HoldingReceiver


@pytest.fixture
def app(postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> typer.Typer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", postgres_url)
    keys = [key.get_secret_value() for key in KEYS]
    monkeypatch.setenv("GROUNDWATCH_ALERTS__ENCRYPTION_KEYS", json.dumps(keys))
    app = typer.Typer()
    alerts.register(app)
    return app


def invoke(app: typer.Typer, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["alerts", *arguments], input=stdin, env={"COLUMNS": "250"})


def test_a_subscription_comes_and_goes_and_never_shows_what_is_secret(app: typer.Typer, engine: Engine) -> None:
    made = invoke(
        app, "subscribe", "https://example.org/t0ken", "--tenant", "acme", "--secret-file", "-", stdin="s3cret\n"
    )
    identifier = made.stdout.strip()
    (listed,) = [json.loads(line) for line in invoke(app, "subscriptions", "--json").stdout.splitlines()]
    assert (listed["subscription_id"], listed["tenant"]) == (identifier, "acme")
    assert listed["to"] == "https://example.org/…"
    table = invoke(app, "subscriptions").stdout
    assert "https://example.org/" in table
    with transaction(engine) as connection:
        (row,) = connection.execute(select(subscriptions)).all()
    assert Sealer(KEYS).open(row.sealed) == Destination(url="https://example.org/t0ken", secret="s3cret")
    for text in (table, json.dumps(listed), str(row), repr(find_subscriptions(engine))):
        assert "s3cret" not in text
        assert "t0ken" not in text
    assert invoke(app, "unsubscribe", identifier).exit_code == 0
    assert isinstance(invoke(app, "unsubscribe", identifier).exception, InvalidInput)
    assert invoke(app, "subscriptions", "--json").stdout == ""


def test_without_a_key_nothing_is_subscribed_and_one_is_made(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROUNDWATCH_ALERTS__ENCRYPTION_KEYS")
    refused = invoke(app, "subscribe", "https://example.org/hook").exception
    assert isinstance(refused, InvalidSettings)
    assert "groundwatch alerts key" in str(refused)
    made = invoke(app, "key").stdout.strip()
    monkeypatch.setenv("GROUNDWATCH_ALERTS__ENCRYPTION_KEYS", json.dumps([made]))
    assert invoke(app, "subscribe", "https://example.org/hook").exit_code == 0


def test_a_url_that_could_never_be_posted_to_is_refused_at_once(app: typer.Typer) -> None:
    assert isinstance(invoke(app, "subscribe", "file:///etc/passwd").exception, TargetRefused)
    assert invoke(app, "subscriptions", "--json").stdout == ""


def test_what_was_given_up_is_listed_and_tried_again(app: typer.Typer, engine: Engine) -> None:
    subscribed(engine, url="https://example.org/t0ken")
    with transaction(engine) as connection:
        raise_alert(connection, alert("a-1"))
    for delivery in claim_deliveries(engine, limit=9, lease_seconds=60):
        assert mark_failed(engine, delivery, error="refused: 404", retry_seconds=None)
    listed = [json.loads(line) for line in invoke(app, "deliveries", "--state", "dead", "--json").stdout.splitlines()]
    assert {one["shown"] for one in listed} == {"kafka", "https://example.org/…"}
    assert {(one["alert_id"], one["attempts"], one["error"]) for one in listed} == {("a-1", 1, "refused: 404")}
    table = invoke(app, "deliveries").stdout
    assert "refused: 404" in table
    assert "t0ken" not in table
    first = str(listed[0]["id"])
    assert invoke(app, "redeliver", first).stdout == "1 will be tried again\n"
    assert isinstance(invoke(app, "redeliver", first).exception, InvalidInput)
    assert invoke(app, "redeliver", "--dead").stdout == "1 will be tried again\n"
    assert len(claim_deliveries(engine, limit=9, lease_seconds=60)) == 2
    assert invoke(app, "deliveries", "--state", "dead", "--json").stdout == ""
    for arguments in ([], [first, "--dead"]):
        assert isinstance(invoke(app, "redeliver", *arguments).exception, InvalidInput)


def test_a_webhook_is_tried_out(app: typer.Typer, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDWATCH_ALERTS__ALLOW_PRIVATE_TARGETS", "true")
    receiver = Receiver(answers=[204, 404])
    with serving(receiver) as address:
        subscription = subscribed(engine, url=f"{address}/hook", secret="s3cret").subscription_id
        assert invoke(app, "test", subscription).stdout == "http://127.0.0.1/… took it\n"
        assert isinstance(invoke(app, "test", subscription).exception, NotDelivered)
    headers, body = receiver.taken[0]
    message = json.loads(body)
    assert (message["schema"], message["test"], message["alert_id"]) == ("alert.v1", True, "test")
    assert headers["x-groundwatch-signature"] == signature("s3cret", headers["x-groundwatch-timestamp"], body)
    assert isinstance(invoke(app, "test", "nobody").exception, InvalidInput)
    with transaction(engine) as connection:
        assert connection.execute(select(outbox)).all() == []


def test_an_alert_is_acknowledged_then_resolved_and_stays_so(app: typer.Typer, engine: Engine) -> None:
    with transaction(engine) as connection:
        raise_alert(connection, alert("a-1"))
    assert invoke(app, "ack", "a-1", "--note", "on it", "--actor", "Ada").stdout == "a-1 is acknowledged\n"
    assert invoke(app, "resolve", "a-1").stdout == "a-1 is resolved\n"
    assert invoke(app, "ack", "a-1").stdout == "a-1 is resolved\n"
    with transaction(engine) as connection:
        columns = alert_transitions.c["to_state", "actor", "note"]
        noted = [tuple(row) for row in connection.execute(select(columns).order_by(alert_transitions.c.id))]
    assert noted == [
        ("pending", "drift", ""),
        ("firing", "drift", ""),
        ("acknowledged", "Ada", "on it"),
        ("resolved", getpass.getuser(), ""),
    ]
    assert isinstance(invoke(app, "ack", "nobody").exception, InvalidInput)


def test_no_alerts_is_an_empty_list(app: typer.Typer) -> None:
    assert invoke(app, "list", "--json").stdout == ""
    assert invoke(app, "list", "--state", "firing").exit_code == 0


def test_an_alert_is_shown_with_its_history(app: typer.Typer, engine: Engine) -> None:
    with transaction(engine) as connection:
        raise_alert(connection, alert("a-1"))
    invoke(app, "ack", "a-1", "--note", "see [wiki]", "--actor", "Ada")
    shown = json.loads(invoke(app, "show", "a-1", "--json").stdout)
    assert (shown["alert_id"], shown["state"], shown["severity"]) == ("a-1", "acknowledged", "critical")
    assert [(step["before"], step["after"], step["actor"]) for step in shown["transitions"]] == [
        (None, "pending", "drift"),
        ("pending", "firing", "drift"),
        ("firing", "acknowledged", "Ada"),
    ]
    text = invoke(app, "show", "a-1").stdout
    for word in ("critical", "firing → acknowledged", "see [wiki]", "10.0% before, 30.0% since"):
        assert word in text
    assert isinstance(invoke(app, "show", "nobody").exception, InvalidInput)


def test_alerts_are_silenced_and_heard_again(app: typer.Typer, engine: Engine) -> None:
    with transaction(engine) as connection:
        raise_alert(connection, alert("a-1"))
    made = invoke(app, "silence", "--tenant", "city", "--for", "1d12h", "--reason", "moving house", "--actor", "Ada")
    identifier = made.stdout.strip()
    (listed,) = [json.loads(line) for line in invoke(app, "silences", "--json").stdout.splitlines()]
    assert (listed["silence_id"], listed["service"], listed["created_by"]) == (identifier, None, "Ada")
    lasts = datetime.fromisoformat(listed["ends_at"]) - datetime.fromisoformat(listed["starts_at"])
    assert lasts == timedelta(hours=36)
    table = invoke(app, "silences").stdout
    assert "city/all/all" in table
    assert "moving house" in table
    (shown,) = [json.loads(line) for line in invoke(app, "list", "--json").stdout.splitlines()]
    assert (shown["silenced"], shown["reopened"], shown["severity"]) == (True, 0, "critical")
    assert "silenced" in invoke(app, "show", "a-1").stdout
    assert invoke(app, "unsilence", identifier).exit_code == 0
    assert isinstance(invoke(app, "unsilence", identifier).exception, InvalidInput)
    assert invoke(app, "silences", "--json").stdout == ""
    assert identifier in invoke(app, "silences", "--all", "--json").stdout
    assert '"silenced": false' in invoke(app, "list", "--json").stdout


def test_a_maintenance_window_lies_ahead(app: typer.Typer, engine: Engine) -> None:
    day = datetime.now(UTC).date() + timedelta(days=2)
    window = ("--from", f"{day}T22:00", "--until", f"{day}T23:30+00:00", "--reason", "upgrade")
    assert invoke(app, "silence", "--service", "help-desk", *window).exit_code == 0
    (made,) = find_silences(engine)
    assert made.ends_at - made.starts_at == timedelta(minutes=90)
    assert (made.tenant, made.service, made.created_by) == ("default", "help-desk", getpass.getuser())


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--for", "2 hours"], "--for"),
        (["--for", "0h"], "--for"),
        (["--for", "31d"], "--for"),
        (["--for", "999999d", "--from", "9999-12-31"], "--for"),
        (["--until", "tomorrow"], "--until"),
        (["--until", "2026-01-01"], "--until"),
        (["--until", "9999-01-01"], "--until"),
        (["--from", "soon", "--for", "2h"], "--from"),
        ([], "--for"),
        (["--for", "2h", "--until", "2099-01-01"], "--for"),
        (["--for", "2h", "--reason", " "], "--reason"),
    ],
)
def test_a_silence_that_cannot_be_names_the_option(app: typer.Typer, arguments: list[str], option: str) -> None:
    refused = invoke(app, "silence", "--reason", "r", *arguments).exception
    assert isinstance(refused, InvalidInput)
    assert option in str(refused)


def test_a_subscription_may_hear_of_the_worst_only(app: typer.Typer, engine: Engine) -> None:
    invoke(app, "subscribe", "https://example.org/hook", "--severity", "critical")
    (found,) = find_subscriptions(engine)
    assert found.least_severity is Severity.CRITICAL
    assert "critical" in invoke(app, "subscriptions").stdout


def test_a_subscription_to_one_cause(app: typer.Typer, engine: Engine) -> None:
    wrong = invoke(app, "subscribe", "https://example.org/", "--cause", "prompt_version").exception
    assert isinstance(wrong, InvalidInput)
    assert "DIMENSION=VALUE" in str(wrong)
    assert invoke(app, "subscribe", "https://example.org/", "--cause", "prompt_version=a=b").exit_code == 0
    (listed,) = [json.loads(line) for line in invoke(app, "subscriptions", "--json").stdout.splitlines()]
    assert listed["cause"] == "prompt_version=a=b"


def test_a_service_can_be_subscribed_and_tried_and_its_token_is_not_shown(
    app: typer.Typer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "3ccdd113474722377935511fc85d3dd4"
    with HoldingReceiver.serving(200) as chat:
        url = f"mmost://127.0.0.1:{chat.server_address[1]}/{token}"
        monkeypatch.setenv("GROUNDWATCH_ALERTS__ALLOW_PRIVATE_TARGETS", "true")
        subscription_id = invoke(app, "subscribe", url, "--tenant", "city").stdout.strip()
        tried = invoke(app, "test", subscription_id)
    assert tried.stdout == "mmost://127.0.0.1/… took it\n"
    ((_, body),) = chat.taken
    assert "Test: [critical] city/example-service/production makes things up more often" in body.decode()
    listed = json.loads(invoke(app, "subscriptions", "--json").stdout)
    assert (listed["channel"], listed["to"]) == ("service", "mmost://127.0.0.1/…")
    with transaction(engine) as connection:
        assert token not in str(connection.execute(select(subscriptions)).all())


@pytest.mark.parametrize("url", ["syslog://", "slack://a/b/c?template=/etc/passwd", "exec://rm"])
def test_a_service_that_could_do_harm_is_refused_at_once(app: typer.Typer, url: str) -> None:
    refused = CliRunner().invoke(app, ["alerts", "subscribe", url])
    assert isinstance(refused.exception, TargetRefused)
    assert invoke(app, "subscriptions", "--json").stdout == ""
