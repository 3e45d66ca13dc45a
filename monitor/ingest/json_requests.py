"""What routes have in common that take JSON, item by item: the way from a request to the disk, and the answer."""

import asyncio
import string
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from monitor.ingest.body import BodyReader, decompressed
from monitor.ingest.callers import Caller, Gate
from monitor.ingest.counters import Refusal, Tally
from monitor.ingest.http import JsonResponse, media_type, refusal
from monitor.ingest.intake import JSON_TYPES, LINE_TYPES, Rejected
from monitor.ingest.refused import RequestRefused
from monitor.ingest.spool import Spool
from monitor.ingest.spool_records import Entry
from monitor.ingest.storing import store

# Below this, parsing takes less time than handing the body to a thread.
_INLINE_BYTES = 32 * 1024
# Unless it is made of what redaction has to look at one by one: up to 4 µs a digit, 10 µs a text.
_INLINE_DIGITS, _INLINE_QUOTES = 1024, 1024
_ALL_BUT_DIGITS = bytes(set(range(256)) - set(string.digits.encode()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one request may be and take."""

    max_batch: int
    max_request_bytes: int
    spool_seconds: float = 10.0


class ToStore(Protocol):
    """What a request comes to."""

    @property
    def entries(self) -> Sequence[Entry]:
        """Records for the spool."""


_Taken = TypeVar("_Taken", bound=ToStore)


def random_ids() -> Iterator[str]:
    """Ids for what came without. Several threads may take them at once, which a generator would not survive."""
    return iter(lambda: uuid.uuid4().hex, "")


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class JsonRequests:
    """Takes requests of one route: the caller waits for the disk, never for Kafka.

    Args:
        spool: that what is accepted is written to.
        tally: told of requests that are refused as a whole, and of how many records were accepted.
    """

    def __init__(self, spool: Spool, *, gate: Gate, bodies: BodyReader, tally: Tally, limits: Limits) -> None:
        self._spool = spool
        self._gate = gate
        self._bodies = bodies
        self._tally = tally
        self._limits = limits
        self._parsing = asyncio.Semaphore(1)
        self._slow = asyncio.Semaphore(1)

    async def respond(
        self, request: Request, *, take: Callable[[bytes, bool, Caller], _Taken], answer: Callable[[_Taken], Response]
    ) -> Response:
        """`answer` to what `take` makes of the plain body, once that is on disk; or why not.

        Args:
            request: whose body is JSON, or one JSON value a line.
            take: given the body, whether it is lines, and who sent it; may raise RequestRefused. Runs in a thread
                where the body is large.
            answer: called once all that was taken is on disk.
        """
        try:
            caller = self._gate.admit(request.headers.get("authorization"))
            lines = _takes_lines(request)
            async with self._bodies.read(request) as body:
                packed = request.headers.get("content-encoding", "")
                taken = await self._taken(body, packed, lambda plain: take(plain, lines, caller))
                if taken.entries:
                    await store(self._spool, taken.entries, seconds=self._limits.spool_seconds)
        except RequestRefused as refused:
            refused.count(self._tally)
            return refusal(refused)
        except ClientDisconnect:
            return Response(status_code=400)
        if taken.entries:
            self._tally.accepted(len(taken.entries))
        return answer(taken)

    async def _taken(self, body: bytes, packed: str, take: Callable[[bytes], _Taken]) -> _Taken:
        small = len(body) <= _INLINE_BYTES and not packed
        if small and not _slow(body):
            return take(body)
        # One at a time: parsed, a body takes up to 27 times its bytes, and a small one may unpack to a large one. Small
        # ones do not wait behind those.
        async with self._slow if small else self._parsing:
            return await asyncio.to_thread(self._unpacked, body, packed, take)

    def _unpacked(self, body: bytes, packed: str, take: Callable[[bytes], _Taken]) -> _Taken:
        return take(decompressed(body, packed, max_bytes=self._limits.max_request_bytes))


def answer(
    told: dict[str, Any], rejected: Sequence[Rejected], *, id_field: str, tally: Tally, all_bad: bool
) -> Response:
    """The answer to a request that was taken item by item; counts what was rejected."""
    named = []
    for one in rejected:
        tally.refused(one.reason, field=one.top_level_field)
        identity = {} if one.identifier is None else {id_field: one.identifier}
        named.append({"index": one.index, **identity, "field": one.field, "problem": one.problem})
    return JsonResponse({**told, "rejected": named}, status_code=422 if named and all_bad else 202)


def _slow(body: bytes) -> bool:
    return body.count(b'"') > _INLINE_QUOTES or len(body.translate(None, _ALL_BUT_DIGITS)) > _INLINE_DIGITS


def _takes_lines(request: Request) -> bool:
    kind = media_type(request)
    if kind in LINE_TYPES:
        return True
    if kind in JSON_TYPES:
        return False
    # Not only pedantry: a web page may post other types to a local port without asking, this one it may not.
    raise RequestRefused(415, Refusal.UNSUPPORTED, "Content-Type must be application/json or application/x-ndjson")
