"""The records of a replay, chunk after chunk in a fixed order, each found from where the last one ended.

Traces are looked for by event time, in windows that the rollups say are worth a look: no chunk reads more of the big
tables than its own minutes, however long the history is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, text

from monitor.domain.trace import Trace
from monitor.domain.verdict import FAITHFULNESS
from monitor.storage.engine import snapshot
from monitor.storage.rebuilding import to_trace
from monitor.storage.replays import Kind, Replay, Selection
from monitor.storage.verifying_days import days

_MINUTES = 240
"""Minutes with verdicts that one window has at most."""

CHUNK_BYTES = 16 * 1024 * 1024
"""Of texts, held at once. Encoded and waiting for Kafka, they take several times as much memory."""

_AT_ONCE = 4
"""Rows that Postgres is asked for at a time: each may have some megabytes."""

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
_CHOSEN = f"""
from verdicts as v
join traces as t on t.tenant = v.tenant and t.trace_id = v.trace_id and t.event_time = v.event_time
where v.event_time >= :since and v.event_time < :until
    and v.evaluator = :evaluator and v.replay_id is null and {_OF_SEGMENT.format(of="v")}
    and (not :unjudged or (v.outcome = 'unjudged' and (cast(:reason as text) is null or v.reason = :reason)))
    and not exists (
        select from verdicts as own
        where own.tenant = v.tenant and own.trace_id = v.trace_id and own.event_time = v.event_time
            and own.evaluator = v.evaluator and own.judge_version = :judge_version
            and not (:unjudged and own.outcome = 'unjudged')
    )
"""

_TRACES = f"""
select t.*, v.sampling_probability,
    octet_length(t.question) + octet_length(t.answer) + octet_length(t.documents::text) as bytes
{_CHOSEN}
    and (v.event_time, v.tenant, v.trace_id) > (:at, :after_tenant, :after_trace)
order by v.event_time, v.tenant, v.trace_id
limit :limit
"""

# What a replay has sent lies on the topic under another offset; if it died there once more, that is another letter.
_DEAD_LETTERS = """
select topic, partition, "offset", raw, octet_length(raw) < raw_bytes as cut, dead_at, octet_length(raw) as bytes
from dead_letters
where split_part(topic, '@', 1) = :traces_topic and replayed_by is null
    and (cast(:since as timestamptz) is null or dead_at >= :since) and dead_at < :until
    and (cast(:reason as text) is null or reason = :reason)
    and (dead_at, topic, partition, "offset") > (:at, :after_topic, :after_partition, :after_offset)
order by dead_at, topic, partition, "offset"
limit :limit
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    """A dead letter as it is kept.

    Attributes:
        place: topic, partition and offset at which it died.
    """

    place: tuple[str, int, int]
    raw: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """What is sent next, and the cursor that stands once it is.

    Attributes:
        letters: dead letters that are kept whole.
        cut: how many there are besides of which only the first bytes are kept.
        done: nothing comes after it.
    """

    traces: Sequence[Trace] = ()
    letters: Sequence[Letter] = ()
    cut: int = 0
    cursor: list[Any]
    done: bool


def next_chunk(engine: Engine, replay: Replay, *, limit: int, traces_topic: str) -> Chunk:
    """The chunk at a replay's cursor: at most `limit` records, and `CHUNK_BYTES` of them unless one has more.

    It may hold none and still not be the last.

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


def count_traces(engine: Engine, selection: Selection, judge_version: str) -> int:
    """How many traces a replay of these would send now; reads the verdicts, day by day.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    count = 0
    for span in days(engine, since=selection.since, until=selection.until):
        bounds = {"since": span.since, "until": span.until}
        with snapshot(engine) as connection:
            asked = {**_chosen(selection, judge_version), **bounds}
            count += connection.execute(text(f"select count(*) {_CHOSEN}"), asked).scalar_one()
    return count


def _chosen(selection: Selection, judge_version: str | None) -> dict[str, Any]:
    return {
        **_segment(selection),
        "evaluator": FAITHFULNESS,
        "unjudged": selection.kind is Kind.UNJUDGED,
        "reason": selection.reason,
        "judge_version": judge_version,
    }


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
        **_chosen(selection, replay.judge_version),
        "since": begin,
        "until": min(end, selection.until),
        "at": begin,
        "after_tenant": tenant,
        "after_trace": trace_id,
        "limit": limit,
    }
    rows, whole = _within_bytes(connection, _TRACES, parameters)
    found = [to_trace(row) for row in rows]
    if found and (not whole or len(found) == limit):
        last = found[-1]
        return Chunk(traces=found, cursor=[last.event_time.isoformat(), last.tenant, last.trace_id], done=False)
    return Chunk(traces=found, cursor=[end.isoformat(), "", ""], done=end >= selection.until)


def _within_bytes(connection: Connection, query: str, parameters: dict[str, Any]) -> tuple[list[RowMapping], bool]:
    """A query's rows in order, one or as many as have `CHUNK_BYTES` together; and whether that is all of them."""
    found: list[RowMapping] = []
    size = 0
    # A few at a time: what is too much is never held.
    asked = text(query).execution_options(stream_results=True, yield_per=_AT_ONCE)
    with connection.execute(asked, parameters) as rows:
        for row in rows.mappings():
            size += row["bytes"]
            if found and size > CHUNK_BYTES:
                return found, False
            found.append(row)
    return found, True


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
    rows, whole = _within_bytes(connection, _DEAD_LETTERS, parameters)
    if not rows:
        return Chunk(cursor=[at, topic, partition, offset], done=True)
    last = rows[-1]
    return Chunk(
        letters=[
            Letter(place=(row["topic"], row["partition"], row["offset"]), raw=bytes(row["raw"]))
            for row in rows
            if not row["cut"]
        ],
        cut=sum(row["cut"] for row in rows),
        cursor=[last["dead_at"].isoformat(), last["topic"], last["partition"], last["offset"]],
        done=whole and len(rows) < limit,
    )
