"""One delivery to a real receiver on loopback."""

import asyncio
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from monitor.alerts.targets import TargetRefused
from monitor.alerts.webhook import MAX_ANSWER_BYTES, NotDelivered, Webhook, signature
from monitor.outbound import AsyncHttpClient, OutboundUnreachable

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PAYLOAD = {"schema": "alert.v1", "alert_id": "a", "note": "höher"}


class Receiver:
    """Keeps what was posted; its paths behave well or badly."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.address = ""
        self.released = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/ok", self._ok, methods=["POST"]),
                Route("/teapot", self._teapot, methods=["POST"]),
                Route("/redirect", self._redirect, methods=["POST"]),
                Route("/flood", self._flood, methods=["POST"]),
                Route("/hang", self._hang, methods=["POST"]),
            ]
        )

    async def _ok(self, request: Request) -> Response:
        self.taken.append((dict(request.headers), await request.body()))
        return Response(status_code=204)

    async def _teapot(self, _: Request) -> Response:
        return Response(status_code=418)

    async def _redirect(self, _: Request) -> Response:
        return RedirectResponse(f"{self.address}/ok", status_code=307)

    async def _flood(self, request: Request) -> Response:
        async def body() -> Any:
            while not await request.is_disconnected():
                yield b"x" * MAX_ANSWER_BYTES

        return StreamingResponse(body())

    async def _hang(self, _: Request) -> Response:
        await self.released.wait()
        return Response()


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    receiver = Receiver()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        receiver.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(receiver.app, log_level="error", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield receiver
        server.should_exit = server.force_exit = True
        thread.join(10)


@pytest.fixture
def receiver(server: Receiver) -> Receiver:
    server.taken.clear()
    return server


def post(url: str, *, secret: str | None = None, allow_private: bool = True, deadline_seconds: float = 60.0) -> None:
    async def run() -> None:
        async with AsyncHttpClient(deadline_seconds=deadline_seconds, max_answer_bytes=MAX_ANSWER_BYTES) as client:
            webhook = Webhook(client, allow_private=allow_private, deadline_seconds=deadline_seconds)
            await webhook.post(url, PAYLOAD, secret=secret, delivery_id="17", now=NOON)

    asyncio.run(run())


def test_the_receiver_can_verify_what_it_got(receiver: Receiver) -> None:
    post(f"{receiver.address}/ok", secret="s3cret")
    ((headers, body),) = receiver.taken
    assert json.loads(body) == PAYLOAD
    assert headers["content-type"] == "application/json"
    assert headers["x-groundwatch-delivery"] == "17"
    timestamp = headers["x-groundwatch-timestamp"]
    assert timestamp == str(int(NOON.timestamp()))
    digest = hmac.new(b"s3cret", timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["x-groundwatch-signature"] == f"v1={digest}"


def test_the_name_of_the_url_is_what_the_receiver_sees(receiver: Receiver) -> None:
    named = receiver.address.replace("127.0.0.1", "localhost")
    post(f"{named}/ok")
    assert receiver.taken[0][0]["host"] == named.removeprefix("http://")


def test_without_a_secret_there_is_no_signature(receiver: Receiver) -> None:
    post(f"{receiver.address}/ok")
    assert "x-groundwatch-signature" not in receiver.taken[0][0]


@pytest.mark.parametrize(("path", "status"), [("teapot", 418), ("redirect", 307), ("nowhere", 404)])
def test_only_2xx_is_delivered_and_no_redirect_is_followed(path: str, status: int, receiver: Receiver) -> None:
    with pytest.raises(NotDelivered, match=str(status)):
        post(f"{receiver.address}/{path}")
    assert receiver.taken == []


def test_an_endless_answer_is_cut_off(receiver: Receiver) -> None:
    with pytest.raises(OutboundUnreachable, match="larger than"):
        post(f"{receiver.address}/flood")


def test_a_receiver_that_hangs_is_left_at_the_deadline(receiver: Receiver) -> None:
    with pytest.raises((NotDelivered, OutboundUnreachable.__base__)):
        post(f"{receiver.address}/hang", deadline_seconds=0.3)


def test_a_private_target_gets_nothing_unless_it_is_allowed(receiver: Receiver) -> None:
    with pytest.raises(TargetRefused, match="not a public address"):
        post(f"{receiver.address}/ok", allow_private=False)
    assert receiver.taken == []


def test_a_closed_port_is_an_error_without_the_path_in_it(receiver: Receiver) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(OutboundUnreachable) as failure:
            post(f"http://127.0.0.1:{port}/hook/token-123")
    assert "token-123" not in str(failure.value)


def test_the_signature_covers_time_and_body() -> None:
    good = signature("k", "1", b"body")
    assert good == signature("k", "1", b"body")
    assert len({good, signature("k", "2", b"body"), signature("k", "1", b"bodz"), signature("l", "1", b"body")}) == 4
