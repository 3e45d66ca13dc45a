"""HTTP to others: the one home of httpx. Every request has a deadline and a largest answer; none follows redirects.

Proxies and netrc of the environment are not used: where we connect is decided by settings alone.

OutboundError
├── OutboundTimeout         no complete answer within the deadline
└── OutboundUnreachable     no connection, or it broke, or the answer was larger than allowed
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from monitor.domain.errors import GroundwatchError

MAX_ANSWER_BYTES = 8 * 1024 * 1024


class OutboundError(GroundwatchError):
    """An HTTP request got no answer.

    Attributes:
        sent: whether the server may have seen the request. False where there was never a connection.
    """

    sent: bool = True


class OutboundTimeout(OutboundError):
    """No complete answer came within the deadline."""


class OutboundUnreachable(OutboundError):
    """The connection failed, broke, or carried more than is allowed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpAnswer:
    """A complete answer, whatever its status; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text; what is not UTF-8 is replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON; raises ValueError when it is not."""
        return json.loads(self.body)


class HttpClient:
    """Blocking; safe for one thread.

    Args:
        deadline_seconds: for a whole request, connecting included.
        max_answer_bytes: a longer answer is an error.
    """

    def __init__(self, *, deadline_seconds: float, max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._deadline = deadline_seconds
        self._limit = max_answer_bytes
        self._client = httpx.Client(timeout=deadline_seconds, follow_redirects=False, trust_env=False)

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> HttpAnswer:
        """GET; raises OutboundError."""
        return self._request("GET", url, None, headers or {})

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> HttpAnswer:
        """POST; raises OutboundError."""
        return self._request("POST", url, body, headers)

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> HttpAnswer:
        # httpx's timeout is for each read: a server that sends a byte a second is stopped here.
        ends = time.monotonic() + self._deadline
        received = bytearray()
        try:
            with self._client.stream(method, url, content=body, headers=dict(headers)) as response:
                for chunk in response.iter_bytes():
                    received += chunk
                    _check_size(received, self._limit)
                    if time.monotonic() > ends:
                        raise OutboundTimeout(f"{_host(url)}: no complete answer in {self._deadline} s")
        except httpx.HTTPError as error:
            raise _translated(error, url, self._deadline) from error
        return _answer(response, received)


class AsyncHttpClient:
    """For asyncio; several requests at a time share its connections.

    Args:
        deadline_seconds: for a whole request, connecting and waiting for a free connection included.
        max_answer_bytes: a longer answer is an error.
        connections: at most this many at a time.
        reuse_connections: False where requests name their own `server_name`: connections are kept by address, so
            a request for one name would ride on a connection that was verified for another.
    """

    def __init__(
        self,
        *,
        deadline_seconds: float,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        connections: int = 100,
        reuse_connections: bool = True,
    ) -> None:
        self._deadline = deadline_seconds
        self._limit = max_answer_bytes
        self._client = httpx.AsyncClient(
            timeout=deadline_seconds,
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(
                max_connections=connections, max_keepalive_connections=None if reuse_connections else 0
            ),
        )

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> HttpAnswer:
        """GET; raises OutboundError."""
        return await self._request("GET", url, None, headers or {}, {})

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, server_name: str | None = None
    ) -> HttpAnswer:
        """POST; raises OutboundError.

        Args:
            url: where to; its host may be an address that was checked before.
            body: sent as it is.
            headers: a `host` among them wins over the URL's.
            server_name: TLS name to ask for and verify when the URL's host is an address.
        """
        extensions = {"sni_hostname": server_name} if server_name else {}
        return await self._request("POST", url, body, headers, extensions)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _request(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], extensions: Mapping[str, Any]
    ) -> HttpAnswer:
        received = bytearray()
        sending = _Sending()
        try:
            async with (
                asyncio.timeout(self._deadline),
                self._client.stream(
                    method, url, content=body, headers=dict(headers), extensions={**extensions, "trace": sending}
                ) as response,
            ):
                async for chunk in response.aiter_bytes():
                    received += chunk
                    _check_size(received, self._limit)
        except TimeoutError:
            late = OutboundTimeout(f"{_host(url)}: no complete answer in {self._deadline} s")
            late.sent = sending.began
            raise late from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            translated = _translated(error, url, self._deadline)
            translated.sent = sending.began
            raise translated from error
        return _answer(response, received)


class _Sending:
    """Whether a request has begun to leave: httpcore tells each step (`trace`, httpx's documented extension)."""

    def __init__(self) -> None:
        self.began = False

    async def __call__(self, step: str, _details: Mapping[str, Any]) -> None:
        self.began = self.began or step.endswith("send_request_headers.started")


def _check_size(received: bytearray, limit: int) -> None:
    if len(received) > limit:
        raise OutboundUnreachable(f"the answer is larger than {limit} bytes")


def _translated(error: Exception, url: str, deadline: float) -> OutboundError:
    if isinstance(error, httpx.TimeoutException):
        return OutboundTimeout(f"{_host(url)}: no complete answer in {deadline} s")
    return OutboundUnreachable(f"{_host(url)}: {error or type(error).__name__}")


def _host(url: str) -> str:
    # Never the whole URL in a message: webhooks carry their secret in the path.
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "an invalid URL"
    return f"{parsed.host}:{parsed.port or parsed.scheme}"


def _answer(response: httpx.Response, received: bytearray) -> HttpAnswer:
    return HttpAnswer(status=response.status_code, headers=dict(response.headers), body=bytes(received))
