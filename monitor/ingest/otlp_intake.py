"""An OTLP export on its way to disk, whatever protocol carried it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from monitor.domain.errors import InvalidMessage
from monitor.ingest.body import decompressed
from monitor.ingest.callers import Caller
from monitor.ingest.counters import Refusal, Tally
from monitor.ingest.refused import RequestRefused, other_tenant, shown
from monitor.ingest.spool import Spool
from monitor.ingest.spool_records import Entry
from monitor.ingest.storing import store
from monitor.ingest.tee import Tee
from monitor.ingest.treatment import NoTreatment, Treatment
from monitor.otlp import TENANT, Inspected, inspect

# Below this, parsing takes less time than handing the body to a thread.
_INLINE_BYTES = 64 * 1024
# To write an export anew takes up to 3 ms a kibibyte, where it is made for that.
_REWRITTEN_INLINE_BYTES = 1024


class OtlpIntake:
    """Takes exports. An exporter is answered once its export is on disk.

    Args:
        spool: of exports.
        tally: told of exports of which a part is refused.
        max_bytes: of one export, as sent and again once decompressed.
        treatment: what is done to an export before it is written.
        tee: given every export that is acknowledged, as it was sent: untreated, with spans that cannot be read.
        spool_seconds: within which the disk must have answered.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        tally: Tally,
        max_bytes: int,
        treatment: Treatment | None = None,
        tee: Tee | None = None,
        spool_seconds: float = 10.0,
    ) -> None:
        self._spool = spool
        self._tally = tally
        self._max_bytes = max_bytes
        self._treatment = treatment or NoTreatment()
        self._tee = tee
        self._spool_seconds = spool_seconds
        self._parsing = asyncio.Semaphore(1)
        self._rewriting = asyncio.Semaphore(1)

    async def take(self, body: bytes, *, compression: str, encoding: str, caller: Caller) -> Inspected:
        """What could be read of an export, once that is on disk.

        Args:
            body: as sent.
            compression: the content encoding, such as `gzip`; may be empty.
            encoding: one of `monitor.otlp`.
            caller: whose traces they are.

        Raises:
            RequestRefused: as a whole.
        """
        kept, found = await self._looked_into(body, compression, encoding, caller)
        if found.spans:
            await store(self._spool, [_entry(kept, encoding, caller)], seconds=self._spool_seconds)
        if found.rejected:
            self._tally.refused(Refusal.INVALID)
        if self._tee is not None:
            self._tee.offer(body, encoding=encoding, compression=compression)
        return found

    async def _looked_into(
        self, body: bytes, compression: str, encoding: str, caller: Caller
    ) -> tuple[bytes, Inspected]:
        if len(body) > _INLINE_BYTES or compression not in ("", "identity"):
            # One at a time: parsed, an export takes many times its bytes, and a small one may unpack to a large one.
            async with self._parsing:
                return await asyncio.to_thread(self._inspected, body, compression, encoding, caller)
        if self._treatment.leaves(body, encoding):
            return body, _found(body, encoding, caller)
        if len(body) <= _REWRITTEN_INLINE_BYTES:
            return self._inspected(body, compression, encoding, caller)
        async with self._rewriting:  # not behind large ones
            return await asyncio.to_thread(self._inspected, body, compression, encoding, caller)

    def _inspected(self, body: bytes, compression: str, encoding: str, caller: Caller) -> tuple[bytes, Inspected]:
        plain = decompressed(body, compression, max_bytes=self._max_bytes)
        found = _found(plain, encoding, caller)
        with _refusing():
            return self._treatment.export(plain, encoding), found


def _found(plain: bytes, encoding: str, caller: Caller) -> Inspected:
    with _refusing():
        found = inspect(plain, encoding)
    if caller.tenant is not None and found.tenants - {caller.tenant}:
        raise other_tenant(f"resource attribute {TENANT}", caller.tenant)
    return found


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except InvalidMessage as error:
        raise RequestRefused(400, Refusal.INVALID, shown(str(error))) from None


def _entry(value: bytes, encoding: str, caller: Caller) -> Entry:
    """An export on disk: its key says how to read it and, after a bar, whose it is; no tenant is the default one."""
    return Entry(key=f"{encoding}|{caller.tenant or ''}".encode(), value=value)


def read_key(key: bytes) -> tuple[str, str | None]:
    """Encoding and tenant of an export on disk; an earlier release wrote no tenant."""
    encoding, _, tenant = key.decode().partition("|")
    return encoding, tenant or None
