"""Dead letters of a trace: records in whose bytes its id stands, and that nobody could read."""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, RowMapping, text

from monitor.domain.errors import LedgerUnavailable
from monitor.storage.engine import snapshot
from monitor.storage.lineage import Happening, Step

SEARCH_SECONDS = 3.0
_MOST_LETTERS = 20
_AT_ONCE = 500


def find_dead_letters(
    engine: Engine, trace_id: str, *, tenant: str | None = None, seconds: float = SEARCH_SECONDS
) -> list[Step]:
    """The newest 20 dead letters in which this id stands as a JSON string, but those that name another tenant.

    No index knows the ids in what could not be read: all dead letters are looked through, for so many seconds. Where
    that was not enough, one step says so.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    found: list[tuple[datetime, Step]] = []
    try:
        with snapshot(engine) as connection:
            whole = _search(connection, trace_id, tenant, seconds, found)
    except LedgerUnavailable as error:
        if not _ran_out(error):
            raise
        whole = False
    newest = [step for _, step in sorted(found, key=lambda each: each[0], reverse=True)[:_MOST_LETTERS]]
    if not whole:
        newest.append(Step(happening=Happening.NOT_SEARCHED, at=None, facts={"seconds": seconds}))
    return newest


def _search(
    connection: Connection, trace_id: str, tenant: str | None, seconds: float, found: list[tuple[datetime, Step]]
) -> bool:
    """Whether all were looked through; what was found until then is in `found`."""
    deadline = time.monotonic() + seconds
    after: dict[str, Any] = {"topic": "", "partition": -1, "offset": -1}
    while (left := deadline - time.monotonic()) > 0:
        connection.execute(_TIMEOUT, {"milliseconds": str(max(1, int(left * 1000)))})
        rows = connection.execute(_NEXT, {**_needles(trace_id), **after, "limit": _AT_ONCE}).mappings().all()
        found += [(row["dead_at"], step) for row in rows if row["raw"] is not None for step in _step(row, tenant)]
        if len(rows) < _AT_ONCE:
            return True
        after = {name: rows[-1][name] for name in after}
    return False


def _needles(trace_id: str) -> dict[str, bytes]:
    one, other = (json.dumps(trace_id, ensure_ascii=escaped).encode(errors="replace") for escaped in (True, False))
    return {"one": one, "other": other}


def _step(row: RowMapping, tenant: str | None) -> Iterator[Step]:
    named = _tenant_in(bytes(row["raw"]))
    if tenant is None or named in (None, tenant):
        facts = {name: row[name] for name in _FACTS}
        yield Step(happening=Happening.DEAD_LETTER, at=row["dead_at"], facts={**facts, "names_tenant": named})


def _tenant_in(raw: bytes) -> str | None:
    try:
        read = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    named = read.get("tenant") if isinstance(read, dict) else None
    return named if isinstance(named, str) else None


def _ran_out(error: LedgerUnavailable) -> bool:
    return isinstance(getattr(error.__cause__, "orig", None), psycopg.errors.QueryCanceled)


_FACTS = ("topic", "partition", "offset", "reason", "field", "detail", "raw_bytes")
_TIMEOUT = text("select set_config('statement_timeout', :milliseconds, true)")
_NEXT = text("""
select
    topic, partition, "offset", dead_at, reason, field, detail, raw_bytes,
    case when position(cast(:one as bytea) in raw) > 0 or position(cast(:other as bytea) in raw) > 0 then raw end as raw
from (
    select * from dead_letters where (topic, partition, "offset") > (:topic, :partition, :offset)
    order by topic, partition, "offset"
    limit :limit
) as block
order by topic, partition, "offset"
""")
