"""The records of a replay, chunk after chunk in a fixed order, each found from where the last one ended.

Traces are looked for by event time, in windows that the rollups say are worth a look: no chunk reads more of the big
tables than its own minutes, however long the history is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from monitor.domain.trace import Trace
from monitor.domain.verdict import FAITHFULNESS
from monitor.storage.engine import snapshot
from monitor.storage.rebuilding import to_trace
from monitor.storage.replays import Kind, Replay, Selection

_MINUTES = 240
"""Minutes with verdicts that one window has at most."""

_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""No trace is older: its contract says so."""

_OF_SEGMENT = " and ".join(
    f"(cast(:{name} as text) is null or {{of}}.{name} = :{name})" for name in ("tenant", "service", "environment")
)

_BUSY_MINUTES = f"""
select r.minute, sum(r.traces) as traces
from rollups as r
where r.minute >= :since and r.minute < :until and {_OF_SEGMENT.format(of="r")}
group by r.minute
order by r.minute
limit :minutes
"""  # noqa: S608 - constants are put in

# The first verdict leads to the trace: it has the event time, which both are kept by, and is one a trace.
_TRACES = f"""
select t.*, v.sampling_probability
from verdicts as v
join traces as t on t.tenant = v.tenant and t.trace_id = v.trace_id and t.event_time = v.event_time
where v.event_time >= :since and v.event_time < :until
    and (v.event_time, v.tenant, v.trace_id) > (:at, :after_tenant, :after_trace)
    and v.evaluator = :evaluator and v.replay_id is null and {_OF_SEGMENT.format(of="v")}
    and (not :unjudged or (v.outcome = 'unjudged' and (cast(:reason as text) is null or v.reason = :reason)))
    and not exists (
        select from verdicts as own
        where own.tenant = v.tenant and own.trace_id = v.trace_id and own.event_time = v.event_time
            and own.evaluator = v.evaluator and own.judge_version = :judge_version
            and not (:unjudged and own.outcome = 'unjudged')
    )
order by v.event_time, v.tenant, v.trace_id
limit :limit
"""  # noqa: S608 - constants are put in

_DEAD_LETTERS = """
select topic, partition, "offset", raw, octet_length(raw) < raw_bytes as cut, dead_at
from dead_letters
where split_part(topic, '@', 1) = :traces_topic
    and (cast(:since as timestamptz) is null or dead_at >= :since) and dead_at < :until
    and (cast(:reason as text) is null or reason = :reason)
    and (dead_at, topic, partition, "offset") > (:at, :after_topic, :after_partition, :after_offset)
order by dead_at, topic, partition, "offset"
limit :limit
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """What is sent next, and the cursor that stands once it is.

    Attributes:
        raw: bytes of dead letters.
        refused: dead letters of which only the first bytes are kept.
        done: nothing comes after it.
    """

    traces: Sequence[Trace] = ()
    raw: Sequence[bytes] = ()
    refused: int = 0
    cursor: list[Any]
    done: bool


def next_chunk(engine: Engine, replay: Replay, *, limit: int, traces_topic: str) -> Chunk:
    """The chunk at a replay's cursor: at most `limit` records. It may hold none and still not be the last.

    Traces that the replay's judge version has spoken of are left out; where those that could not be judged are
    replayed, so are only those that it has judged.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    with snapshot(engine) as connection:
        if replay.selection.kind is Kind.DEAD_LETTERS:
            return _dead_letters(connection, replay, limit=limit, traces_topic=traces_topic)
        return _traces(connection, replay, limit=limit)


def extent(engine: Engine, selection: Selection) -> int | None:
    """About how many traces a selection holds, by the rollups; None where these do not tell."""
    if selection.kind is not Kind.TRACES:
        return None
    query = f"""
        select coalesce(sum(r.traces - r.replayed), 0) from rollups as r
        where r.minute >= :since and r.minute < :until and {_OF_SEGMENT.format(of="r")}
    """  # noqa: S608 - constants are put in
    with snapshot(engine) as connection:
        return int(connection.execute(text(query), _segment(selection)).scalar_one())


def _segment(selection: Selection) -> dict[str, Any]:
    return {
        "tenant": selection.tenant,
        "service": selection.service,
        "environment": selection.environment,
        "since": selection.since or _BEGINNING,
        "until": selection.until,
    }


def _traces(connection: Connection, replay: Replay, *, limit: int) -> Chunk:
    selection = replay.selection
    at, tenant, trace_id = replay.cursor or [(selection.since or _BEGINNING).isoformat(), "", ""]
    begin = datetime.fromisoformat(at)
    end = _window(connection, selection, begin, limit=limit)
    if end is None:
        return Chunk(cursor=[at, tenant, trace_id], done=True)
    parameters = {
        **_segment(selection),
        "since": begin,
        "until": min(end, selection.until),
        "at": begin,
        "after_tenant": tenant,
        "after_trace": trace_id,
        "evaluator": FAITHFULNESS,
        "unjudged": selection.kind is Kind.UNJUDGED,
        "reason": selection.reason,
        "judge_version": replay.judge_version,
        "limit": limit,
    }
    found = [to_trace(row) for row in connection.execute(text(_TRACES), parameters).mappings()]
    if len(found) == limit:
        last = found[-1]
        return Chunk(traces=found, cursor=[last.event_time.isoformat(), last.tenant, last.trace_id], done=False)
    return Chunk(traces=found, cursor=[end.isoformat(), "", ""], done=end >= selection.until)


def _window(connection: Connection, selection: Selection, begin: datetime, *, limit: int) -> datetime | None:
    """The end of a window after `begin` that holds about `limit` traces; None where there are no more."""
    minute = begin.replace(second=0, microsecond=0)
    parameters = {**_segment(selection), "since": minute, "minutes": _MINUTES}
    found, end = 0, None
    for row in connection.execute(text(_BUSY_MINUTES), parameters):
        end = row.minute + timedelta(minutes=1)
        # What of the first minute lies before the cursor is not known: it never fills a window by itself.
        found += row.traces if row.minute > minute else 0
        if found >= limit:
            break
    return end


def _dead_letters(connection: Connection, replay: Replay, *, limit: int, traces_topic: str) -> Chunk:
    selection = replay.selection
    at, topic, partition, offset = replay.cursor or [_BEGINNING.isoformat(), "", -1, -1]
    parameters = {
        "since": selection.since,
        "until": selection.until,
        "reason": selection.reason,
        "traces_topic": traces_topic,
        "at": datetime.fromisoformat(at),
        "after_topic": topic,
        "after_partition": partition,
        "after_offset": offset,
        "limit": limit,
    }
    rows = connection.execute(text(_DEAD_LETTERS), parameters).all()
    if not rows:
        return Chunk(cursor=[at, topic, partition, offset], done=True)
    last = rows[-1]
    return Chunk(
        raw=[bytes(row.raw) for row in rows if not row.cut],
        refused=sum(row.cut for row in rows),
        cursor=[last.dead_at.isoformat(), last.topic, last.partition, last.offset],
        done=len(rows) < limit,
    )
