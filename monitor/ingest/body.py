"""A request's body, read no further than its limits allow."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from starlette.requests import Request

from monitor.ingest.counters import Refusal
from monitor.ingest.refused import RequestRefused

_GZIP = 16 + zlib.MAX_WBITS
_BUSY_RETRY_SECONDS = 1


@dataclass(kw_only=True, slots=True)
class BodyReader:
    """Reads bodies under three limits: of one body, of all bodies in memory together, and of time.

    Attributes:
        max_bytes: of one body, as sent and again once decompressed.
        max_total_bytes: of all bodies that are being read or worked on.
        seconds: within which a body must have arrived.
    """

    max_bytes: int
    max_total_bytes: int
    seconds: float
    _held: int = field(default=0, init=False)

    @contextlib.asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The raw body; its memory counts until the context ends.

        Raises:
            RequestRefused: 413 (at once, if the header says so), 503 busy, or 408.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self.max_bytes:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.seconds):
                async for chunk in request.stream():
                    size += len(chunk)
                    self._held += len(chunk)
                    self._check(size)
                    chunks.append(chunk)
            yield b"".join(chunks)
        except TimeoutError:
            problem = f"the body did not arrive within {self.seconds:g} s"
            raise RequestRefused(408, Refusal.TOO_SLOW, problem) from None
        finally:
            self._held -= size

    @contextlib.contextmanager
    def hold(self, body: bytes) -> Iterator[None]:
        """Count a body that came by another way than `read` until the context ends.

        Raises:
            RequestRefused: 413, or 503 busy.
        """
        self._held += len(body)
        try:
            self._check(len(body))
            yield
        finally:
            self._held -= len(body)

    def _check(self, size: int) -> None:
        if size > self.max_bytes:
            raise self._too_large()
        if self._held > self.max_total_bytes:
            problem = "too many large requests at once"
            raise RequestRefused(503, Refusal.BUSY, problem, retry_seconds=_BUSY_RETRY_SECONDS)

    def _too_large(self) -> RequestRefused:
        return RequestRefused(413, Refusal.TOO_LARGE, f"a request may have at most {self.max_bytes} bytes")


def decompressed(body: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """Undo the content encoding, never holding more than `max_bytes`: a bomb is refused after that many.

    Raises:
        RequestRefused: 413, 415 for an encoding other than gzip and identity, 400 for broken gzip.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise RequestRefused(415, Refusal.UNSUPPORTED, "Content-Encoding may be gzip or identity")
    inflater = zlib.decompressobj(_GZIP)
    try:
        plain = inflater.decompress(body, max_bytes + 1)
    except zlib.error:
        raise RequestRefused(400, Refusal.NOT_JSON, "the body is not gzip, as Content-Encoding says") from None
    if len(plain) > max_bytes:
        problem = f"a request may have at most {max_bytes} bytes once decompressed"
        raise RequestRefused(413, Refusal.TOO_LARGE, problem)
    if not inflater.eof or inflater.unused_data:
        raise RequestRefused(400, Refusal.NOT_JSON, "the gzip stream is cut short or followed by other bytes")
    return plain
