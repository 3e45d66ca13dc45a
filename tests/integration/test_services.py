"""Messages to services by the real Apprise, to a real SMTP server and a real HTTP server on this machine."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from monitor.alerts.message import message_of
from monitor.alerts.services import Services
from monitor.alerts.targets import TargetRefused
from monitor.alerts.webhook import NotDelivered
from monitor.embedded.ports import free_port
from monitor.wire import alert_to_json
from tests.examples.alerts import alert
from tests.support.webhooks import HoldingReceiver

MESSAGE = message_of(alert_to_json(alert()))
TOKEN = "3ccdd113474722377935511fc85d3dd4"


def send(url: str, *, allow_private: bool = True, seconds: float = 30.0) -> None:
    async def sending() -> None:
        await Services(allow_private=allow_private, deadline_seconds=seconds).send(url, MESSAGE)

    asyncio.run(sending())


class Mailbox:
    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd calls it so
        self.envelopes.append(envelope)
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[tuple[Mailbox, int]]:
    mailbox, port = Mailbox(), free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield mailbox, port
    finally:
        controller.stop()


def test_a_mail_arrives() -> None:
    with mail_server() as (mailbox, port):
        send(f"mailto://127.0.0.1:{port}?from=bot@example.org&to=oncall@example.org&mode=insecure")
    (envelope,) = mailbox.envelopes
    content = envelope.content
    assert isinstance(content, bytes)
    assert envelope.rcpt_tos == ["oncall@example.org"]
    assert b"makes things up more often" in content
    assert b"groundwatch drift explain" in content


def test_a_chat_message_arrives() -> None:
    with HoldingReceiver.serving(200) as receiver:
        send(f"mmost://127.0.0.1:{receiver.server_address[1]}/{TOKEN}")
    ((_, body),) = receiver.taken
    text = json.dumps(json.loads(body))
    assert "makes things up more often" in text
    assert "groundwatch drift explain" in text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "2130706433"])
def test_private_addresses_are_refused_whatever_they_are_called(host: str) -> None:
    with HoldingReceiver.serving() as receiver:
        with pytest.raises((TargetRefused, NotDelivered)) as refused:
            send(f"mmost://{host}:{receiver.server_address[1]}/{TOKEN}", allow_private=False)
        assert receiver.taken == []
    assert TOKEN not in str(refused.value)
    if host in {"127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254"}:
        assert isinstance(refused.value, TargetRefused)


def test_mail_by_a_private_server_is_refused() -> None:
    with mail_server() as (mailbox, port), pytest.raises(TargetRefused, match="not a public address"):
        send(
            f"mailto://example.org:{port}?from=bot@example.org&to=oncall@example.org&mode=insecure&smtp=127.0.0.1",
            allow_private=False,
        )
    assert mailbox.envelopes == []


def test_several_receivers_in_one_url_are_refused() -> None:
    with pytest.raises(TargetRefused, match="several receivers"):
        send("tgram://123456789:abcdefg_hijklmnopqrstuvwxyzabcdef/111111/222222")


def test_what_cannot_be_reached_may_be_tried_again_and_tells_no_token() -> None:
    with pytest.raises(NotDelivered) as failed:
        send(f"mmost://127.0.0.1:{free_port()}/{TOKEN}")
    assert TOKEN not in str(failed.value)
    assert str(failed.value)


def test_what_the_service_refuses_may_be_tried_again() -> None:
    with HoldingReceiver.serving(503) as receiver, pytest.raises(NotDelivered, match="503"):
        send(f"mmost://127.0.0.1:{receiver.server_address[1]}/{TOKEN}")


def test_what_apprise_does_not_understand_is_refused() -> None:
    with pytest.raises(TargetRefused, match="does not understand"):
        send("slack://no")


def test_a_service_that_never_answers_costs_the_deadline_and_leaves_no_process() -> None:
    with HoldingReceiver.serving() as receiver:
        receiver.answering.clear()
        with pytest.raises(NotDelivered, match="no answer from Mattermost over http in 3 s"):
            send(f"mmost://127.0.0.1:{receiver.server_address[1]}/{TOKEN}", seconds=3)
    running = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True, check=True).stdout
    assert "monitor.alerts.sender" not in running


GUARDED = """
import json, socket, subprocess, sys
from monitor.alerts.sender import Guard
guard = Guard(allow_private=False)
sys.addaudithook(guard)
try:
    {attempt}
except PermissionError as error:
    print(json.dumps([str(error), guard.refusal]))
"""


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('127.0.0.1', 9), 1)",
        "socket.socket().connect_ex(('127.0.0.1', 9))",
        "socket.socket().connect(('localhost', 9))",
        "socket.socket(socket.AF_INET6).connect(('::ffff:10.0.0.1', 9))",
        "socket.socket(socket.AF_UNIX).connect('/run/docker.sock')",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.168.0.1', 53))",
        "subprocess.run(['true'])",
        "__import__('os').system('true')",
    ],
)
def test_the_guard_sees_every_way_out(attempt: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", GUARDED.format(attempt=attempt)], capture_output=True, text=True, timeout=30, check=True
    )
    said: list[Any] = json.loads(ended.stdout)
    assert said[0] == said[1]


def test_the_guard_lets_what_is_allowed_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        attempt = f"socket.create_connection({server.getsockname()!r}, 5).close(); print(json.dumps(guard.refusal))"
        code = GUARDED.format(attempt=attempt).replace("allow_private=False", "allow_private=True")
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(ended.stdout) is None
