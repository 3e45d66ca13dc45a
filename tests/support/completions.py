"""A real HTTP server that answers chat completions with what a test says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[str], str | int]
"""The last user message to the reply, or to the status of a refusal."""


@dataclass
class Completions:
    """Where it is, and every message that it was sent."""

    url: str
    messages: list[str] = field(default_factory=list)


@contextmanager
def completions(reply: Reply) -> Iterator[Completions]:
    """The server for the length of a `with` block; usage is 7 prompt tokens and 3 completion tokens a call."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = asked["messages"][-1]["content"]
            served.messages.append(message)
            said = reply(message)
            if isinstance(said, int):
                self._send(said, {"error": {"message": "refused"}})
                return
            choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
            self._send(200, {"object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})

        def do_GET(self) -> None:
            self._send(200, {"data": []})

        def _send(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that was interrupted is what tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    served = Completions(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
