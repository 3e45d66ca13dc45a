"""Replays: what is to be judged anew, and how far sending it has come. The cursor is durable, and moves after Kafka."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Engine, Row, func, insert, literal, or_, select, update, values
from sqlalchemy.sql.elements import ColumnElement

from monitor.domain.errors import InvalidInput
from monitor.domain.trace import hold_utc
from monitor.storage.engine import snapshot, transaction
from monitor.storage.storable import storable
from monitor.storage.tables import dead_letters, replays


class Kind(StrEnum):
    """What is sent."""

    TRACES = "traces"
    UNJUDGED = "unjudged"
    DEAD_LETTERS = "dead_letters"


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which records are judged anew; None is no limit.

    Attributes:
        since, until: of event time, `until` excluded; of dead letters, when they died.
        tenant, service, environment: of traces only.
        reason: why they could not be judged, or not be read.
    """

    kind: Kind
    until: datetime
    since: datetime | None = None
    tenant: str | None = None
    service: str | None = None
    environment: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        hold_utc(self, "since", "until")


class ReplayState(StrEnum):
    """Where a replay stands; one that is `sending` without anyone who sends it waits for `resume`."""

    SENDING = "sending"
    STOPPED = "stopped"
    SENT = "sent"


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """One replay as it stands.

    Attributes:
        judge_version: who is to judge; None for dead letters, which go to whoever judges live traffic.
        cursor: where sending goes on, as the source of the records understands it; None at the beginning.
        sent: records that Kafka has acknowledged; after a kill, some of them twice.
        refused: what cannot be sent: dead letters that still cannot be read, or are cut, and what Kafka does not take.
        updated_at: when sending last came on.
        places: by partition of the topic of replays, where its records begin and end; None before there are any.
    """

    replay_id: int
    created_at: datetime
    actor: str
    selection: Selection
    judge_version: str | None
    state: ReplayState
    cursor: list[Any] | None
    sent: int
    refused: int
    updated_at: datetime
    finished_at: datetime | None
    places: dict[str, list[int]] | None

    def as_json(self) -> dict[str, Any]:
        """The same, as a JSON value."""
        value: dict[str, Any] = _REPLAY.dump_python(self, mode="json")
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunked:
    """What became of one chunk.

    Attributes:
        cursor: where sending goes on.
        sent: records that Kafka has acknowledged.
        refused: what could not be sent, and never can as it is.
        places: partition and offset of what is on the topic of replays.
        letters: topic, partition and offset of the dead letters among them, by where they had died.
        done: nothing comes after it.
    """

    cursor: list[Any]
    sent: int = 0
    refused: int = 0
    places: Sequence[tuple[int, int]] = ()
    letters: Sequence[tuple[str, int, int]] = ()
    done: bool


_REPLAY: Final = TypeAdapter[Any](Replay)
_SELECTION: Final = TypeAdapter(Selection)
_COLUMNS = [replays.c[name] for name in Replay.__dataclass_fields__]


class ReplayBook:
    """All replays."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, selection: Selection, *, judge_version: str | None, actor: str) -> Replay:
        """A new replay of which nothing is sent yet; raises LedgerUnavailable."""
        row = {
            "actor": storable(actor),
            "selection": _SELECTION.dump_python(selection, mode="json"),
            "judge_version": judge_version,
        }
        with transaction(self._engine) as connection:
            return _replay(connection.execute(insert(replays).values(row).returning(*_COLUMNS)).one())

    def find(self, replay_id: int) -> Replay:
        """The replay of this id.

        Raises:
            InvalidInput: there is none.
        """
        with snapshot(self._engine) as connection:
            row = connection.execute(select(*_COLUMNS).where(replays.c.replay_id == replay_id)).one_or_none()
        if row is None:
            raise InvalidInput(f"there is no replay {replay_id}; `groundwatch replay status` lists them")
        return _replay(row)

    def newest(self, *, limit: int = 20) -> Sequence[Replay]:
        """The last ones, newest first."""
        with snapshot(self._engine) as connection:
            query = select(*_COLUMNS).order_by(replays.c.replay_id.desc()).limit(limit)
            return [_replay(row) for row in connection.execute(query)]

    def advance(self, replay: Replay, chunk: Chunked) -> Replay | None:
        """Move the cursor, once everything before it is acknowledged; what is stopped by now stays stopped.

        Dead letters among it are not sent again, by this replay or another.

        Returns:
            The replay as it now stands. None, with nothing changed, where someone else has sent on.
        """
        change = (
            update(replays)
            .where(
                replays.c.replay_id == replay.replay_id,
                # Also while it is stopped: what was acknowledged is on the topic, and would be sent once more.
                replays.c.state != ReplayState.SENT,
                _stands_at(replay.cursor),
            )
            .values(
                cursor=chunk.cursor,
                sent=replays.c.sent + chunk.sent,
                refused=replays.c.refused + chunk.refused,
                state=literal(ReplayState.SENT) if chunk.done else replays.c.state,
                updated_at=func.now(),
                finished_at=func.now() if chunk.done else None,
                places=_widened(replay.places, chunk.places),
            )
        )
        with transaction(self._engine) as connection:
            row = connection.execute(change.returning(*_COLUMNS)).one_or_none()
            if row is not None and chunk.letters:
                # In one order, so that two replays wait for each other, and never in a circle.
                sent = values(*dead_letters.c["topic", "partition", "offset"], name="sent").data(sorted(chunk.letters))
                marked = update(dead_letters).values(replayed_by=replay.replay_id)
                connection.execute(
                    marked.where(
                        dead_letters.c.topic == sent.c.topic,
                        dead_letters.c.partition == sent.c.partition,
                        dead_letters.c.offset == sent.c.offset,
                    )
                )
        return None if row is None else _replay(row)

    def turn(self, replay_id: int, state: ReplayState, *, anew: bool = False) -> Replay:
        """Stop a replay, or let it go on; `anew` from the beginning. One that is `sent` is only begun anew.

        Raises:
            InvalidInput: there is no such replay.
        """
        change = update(replays).where(replays.c.replay_id == replay_id)
        if anew:
            change = change.values(cursor=None, finished_at=None)
        else:
            change = change.where(replays.c.state != ReplayState.SENT)
        with transaction(self._engine) as connection:
            connection.execute(change.values(state=state, updated_at=func.now()))
        return self.find(replay_id)


def _widened(places: dict[str, list[int]] | None, more: Sequence[tuple[int, int]]) -> dict[str, list[int]] | None:
    """The places, and these too."""
    found = dict(places or {})
    for partition, offset in more:
        first, end = found.get(str(partition), (offset, offset + 1))
        found[str(partition)] = [min(first, offset), max(end, offset + 1)]
    return found or None


def _stands_at(cursor: list[Any] | None) -> ColumnElement[bool]:
    if cursor is not None:
        return replays.c.cursor == cursor
    # JSON's null is what releases before this one wrote where a replay began anew.
    return or_(replays.c.cursor.is_(None), func.jsonb_typeof(replays.c.cursor) == "null")


def _replay(row: Row[Any]) -> Replay:
    found = row._asdict()
    selection = _SELECTION.validate_python(found["selection"])
    return Replay(**{**found, "selection": selection, "state": ReplayState(found["state"])})
