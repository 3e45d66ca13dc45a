"""An HTTP server that misbehaves as it is told: the other end of everything that the pool's client must survive.

It speaks HTTP/1.1 byte by byte over asyncio, in a thread of its own, so that it can cut, drip, flood, hang, be killed
with calls under way and come back on the same port.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from monitor.embedded.ports import free_port

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]
Script = Callable[[dict[str, Any], int], Behaviour]

VERDICT = '{"REASONING": ["It says so."], "SCORE": "FAIL"}'


def completion(content: str = VERDICT, *, prompt_tokens: int = 100, completion_tokens: int = 10) -> Behaviour:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return status(200, json.dumps({"choices": [choice], "usage": usage}).encode())


def status(code: int, body: bytes = b"", **headers: str) -> Behaviour:
    named = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {code} x\r\n{head}\r\n".encode() + body)
        await writer.drain()

    return behave


async def hang(_writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def noise(writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\xff this is no HTTP \r\n\r\n")
    writer.close()


async def cut(writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"choices": [')
    await writer.drain()
    writer.transport.abort()


async def drip(writer: asyncio.StreamWriter) -> None:
    """A slow loris: always a little more, never the end."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\n \r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


class UnrulyServer:
    """Listens on loopback; `script` decides per request, from its JSON body and its number (from 1)."""

    def __init__(self) -> None:
        self.port = free_port()
        self.script: Script = lambda _body, _number: completion()
        self.bodies: list[dict[str, Any]] = []
        self.sent_bytes = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @classmethod
    @contextmanager
    def serving(cls) -> Iterator[Self]:
        server = cls()
        server._thread.start()
        server.start()
        try:
            yield server
        finally:
            server.kill()
            server._loop.call_soon_threadsafe(server._loop.stop)
            server._thread.join(10)
            server._loop.close()

    def start(self) -> None:
        self._do(self._start())

    def kill(self) -> None:
        """Drop every connection and refuse new ones, as a killed process does."""
        self._do(self._kill())

    async def flood(self, writer: asyncio.StreamWriter) -> None:
        """A reply without end; `sent_bytes` says how much of it was taken."""
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            await writer.drain()
            self.sent_bytes += 0x10000

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _kill(self) -> None:
        if self._server is not None:
            self._server.close()
        for call in set(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            # Cancelled is killed; the rest is what a client that went away looks like.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while not writer.is_closing():
                    await self._answer(reader, writer)
        finally:
            self._calls.discard(task)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length"))
        self.bodies.append(json.loads(await reader.readexactly(length)))
        behaving = asyncio.ensure_future(self.script(self.bodies[-1], len(self.bodies))(writer))
        # One byte more can only be the end of the connection: the client has gone.
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({behaving, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ConnectionResetError
            await behaving
        finally:
            behaving.cancel()
            gone.cancel()
            await asyncio.gather(behaving, gone, return_exceptions=True)
