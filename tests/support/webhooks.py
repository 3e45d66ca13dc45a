"""A webhook's other end that can be made to wait before it answers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

HOLD_SECONDS = 120.0


class HoldingReceiver(ThreadingHTTPServer):
    """Takes every POST at once; answers while `answering` is set, and otherwise when it is set again."""

    def __init__(self, status: int = 204) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.answering = threading.Event()
        self.answering.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A killed worker hears no answer: that is what it was killed for."""

    @classmethod
    @contextmanager
    def serving(cls, status: int = 204) -> Iterator[Self]:
        with cls(status) as receiver:
            thread = threading.Thread(target=receiver.serve_forever)
            thread.start()
            try:
                yield receiver
            finally:
                receiver.answering.set()
                receiver.shutdown()
                thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    server: HoldingReceiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.server.answering.wait(HOLD_SECONDS)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""
