"""What a replay would send, before it does."""

from dataclasses import dataclass
from datetime import datetime

from monitor.services.replay import key_of
from monitor.storage.engine import LedgerEngine
from monitor.storage.replays import Replay, ReplayState, Selection
from monitor.storage.replays_source import count_traces, next_chunk

_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class WouldSend:
    """Records, as the ledger stands.

    Attributes:
        sent: that would go to a topic.
        refused: dead letters that cannot be read now either, or of which only the first bytes are kept.
    """

    sent: int
    refused: int


def would_send(
    engine: LedgerEngine, selection: Selection, *, judge_version: str | None, traces_topic: str, now: datetime
) -> WouldSend:
    """Count a selection; nothing is written, and Kafka is not asked.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    if judge_version is not None:
        return WouldSend(sent=count_traces(engine, selection, judge_version), refused=0)
    sent = refused = 0
    cursor, done = None, False
    while not done:
        imagined = Replay(
            replay_id=0,
            created_at=now,
            actor="",
            selection=selection,
            judge_version=None,
            state=ReplayState.SENDING,
            cursor=cursor,
            sent=0,
            refused=0,
            updated_at=now,
            finished_at=None,
            places=None,
        )
        chunk = next_chunk(engine, imagined, limit=_AT_ONCE, traces_topic=traces_topic)
        readable = sum(key_of(letter.raw) is not None for letter in chunk.letters)
        sent, refused = sent + readable, refused + chunk.cut + len(chunk.letters) - readable
        cursor, done = chunk.cursor, chunk.done
    return WouldSend(sent=sent, refused=refused)
