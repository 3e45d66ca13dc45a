"""A reverse proxy that counts: what a library really asked of a model server, in the server's own words."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from monitor.outbound import HttpAnswer, HttpClient, OutboundError

_LOOPBACK = "127.0.0.1"
_OK = 200
_BAD_GATEWAY = 502
_POLL_SECONDS = 0.05
_PASSED_ON = ("content-type", "authorization", "accept")


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request for a completion, answered or refused.

    Attributes:
        status: of the server's answer; 502 when there was none.
        prompt_tokens, completion_tokens: of its `usage`; 0 where it gave none.
        seconds: that the server took.
    """

    status: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class CountingProxy:
    """Counts the POSTs that pass. Thread-safe.

    Attributes:
        url: what a client takes for the server's base URL.
    """

    def __init__(self, upstream: str, *, deadline_seconds: float) -> None:
        self._upstream = upstream.rstrip("/")
        self._deadline = deadline_seconds
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._in_flight = 0
        self._server = _Server((_LOOPBACK, 0), self)
        self.url = f"http://{_LOOPBACK}:{self._server.server_address[1]}"

    def take(self) -> list[Call]:
        """The calls that ended since the last time."""
        with self._lock:
            taken, self._calls = self._calls, []
        return taken

    def wait_until_idle(self, *, deadline_seconds: float) -> bool:
        """Wait for what the server still works on although its client has gone; False at the deadline."""
        ends = time.monotonic() + deadline_seconds
        while time.monotonic() < ends:
            with self._lock:
                if not self._in_flight:
                    return True
            time.sleep(_POLL_SECONDS)
        return False

    def serve(self) -> None:
        """Answer until `stop`; blocks."""
        self._server.serve_forever(_POLL_SECONDS)

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def pass_on(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> HttpAnswer:
        """Ask the server, and count what is a POST."""
        with self._lock:
            self._in_flight += 1
        began = time.perf_counter()
        answer = self._ask(method, path, body, headers)
        with self._lock:
            self._in_flight -= 1
            if method == "POST":
                self._calls.append(_call(answer, time.perf_counter() - began))
        return answer

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> HttpAnswer:
        url = self._upstream + path
        try:
            with HttpClient(deadline_seconds=self._deadline) as client:
                return client.get(url, headers) if method == "GET" else client.post(url, body, headers)
        except OutboundError as error:
            text = json.dumps({"error": {"message": str(error)}}).encode()
            return HttpAnswer(status=_BAD_GATEWAY, headers={"content-type": "application/json"}, body=text)


@contextmanager
def counting_proxy(upstream: str, *, deadline_seconds: float = 600.0) -> Iterator[CountingProxy]:
    """A proxy before `upstream` (a base URL), on a free loopback port, for the length of a `with` block."""
    proxy = CountingProxy(upstream, deadline_seconds=deadline_seconds)
    thread = threading.Thread(target=proxy.serve, name="counting-proxy", daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join()


def _call(answer: HttpAnswer, seconds: float) -> Call:
    usage: Any = None
    if answer.status == _OK:
        try:
            usage = answer.json().get("usage")
        except (ValueError, AttributeError):
            usage = None
    counts = usage if isinstance(usage, dict) else {}
    return Call(
        status=answer.status,
        prompt_tokens=int(counts.get("prompt_tokens") or 0),
        completion_tokens=int(counts.get("completion_tokens") or 0),
        seconds=seconds,
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], proxy: CountingProxy) -> None:
        super().__init__(address, _Handler)
        self.proxy = proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._pass_on("GET")

    def do_POST(self) -> None:
        self._pass_on("POST")

    def _pass_on(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        answer = self.server.proxy.pass_on(method, self.path, body, headers)
        self.send_response(answer.status)
        self.send_header("content-type", answer.headers.get("content-type", "application/json"))
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's signature
        """Say nothing: the counts are the log."""
