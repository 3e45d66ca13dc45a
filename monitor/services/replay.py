"""Sending a replay: stored texts back onto a topic, no faster than asked, and never past what Kafka has.

    ledger ─▶ chunk ─▶ rag.replays.v1 ─(acknowledged)─▶ cursor ─▶ next chunk

A kill at any point repeats at most a chunk, and what is sent twice is judged into the same row.
"""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from monitor.config import KafkaSettings
from monitor.domain.errors import InvalidTrace, LedgerUnavailable, StreamUnavailable
from monitor.services.replay_delivery import HeadedSender, Outgoing, deliver
from monitor.services.replay_headers import headers
from monitor.services.stopping import Stop
from monitor.storage.engine import LedgerEngine
from monitor.storage.replays import Chunked, Replay, ReplayBook, ReplayState
from monitor.storage.replays_source import Chunk, next_chunk
from monitor.wire import decode_trace, encode_trace

logger = logging.getLogger(__name__)

_MOST_A_CHUNK = 200
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
# Where a selection is rare, most windows hold none of it: Postgres has other work, too.
_EMPTY_SECONDS = 0.05


class Pace:
    """Keeps to a rate, on average since it was made; what was missed while Kafka was slow is not made up for.

    Args:
        rate: records a second.
        stop: ends a pause at once.
        stopwatch: a steady clock in seconds.
    """

    def __init__(self, rate: float, *, stop: Stop, stopwatch: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._stop = stop
        self._stopwatch = stopwatch
        self._due = stopwatch()

    def spend(self, records: int) -> None:
        """Wait until so many records are paid for."""
        now = self._stopwatch()
        self._due = max(self._due, now) + records / self._rate
        if self._due > now:
            self._stop.wait(self._due - now)


class ReplaySender:
    """Sends replays to their end, or until told to stop.

    Args:
        engine: of the ledger.
        producer: writes; closed by whoever made it.
        topics: where traces to be judged anew go, and dead letters.
        rate: records a second.
        stop: asked between two chunks.
        say: told what a person should know of: what cannot be sent, and what is waited for.
    """

    def __init__(
        self,
        engine: LedgerEngine,
        *,
        producer: HeadedSender,
        topics: KafkaSettings,
        rate: float,
        stop: Stop,
        say: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._book = ReplayBook(engine)
        self._producer = producer
        self._topics = topics
        self._stop = stop
        self._say = say
        self._pace = Pace(rate, stop=stop)
        # About a second's worth: what a kill repeats, and how often progress is seen.
        self._limit = max(1, min(_MOST_A_CHUNK, int(rate)))

    def send(self, replay: Replay) -> Iterator[Replay]:
        """Send from the replay's cursor on; yields how it stands after each chunk, as the last what it came to.

        While Kafka or Postgres is away, the same chunk is tried again. Told to stop, it leaves the replay stopped.
        """
        pause, in_doubt = _FIRST_PAUSE_SECONDS, False
        while replay.state is ReplayState.SENDING and not self._stop.is_set():
            try:
                # What was being written when Postgres went away may have been written.
                replay = self._book.find(replay.replay_id) if in_doubt else replay
                in_doubt = False
                came = self._next(replay) if replay.state is ReplayState.SENDING else None
                stands = self._book.find(replay.replay_id) if came is None else came
            except (LedgerUnavailable, StreamUnavailable) as error:
                in_doubt = True
                self._say(f"{error}; trying again in {pause:g} s")
                self._stop.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                continue
            pause = _FIRST_PAUSE_SECONDS
            records = stands.sent - replay.sent
            replay = stands
            yield replay
            if came is None:
                return
            self._pace.spend(records)
            if not records:
                self._stop.wait(_EMPTY_SECONDS)
        if replay.state is ReplayState.SENDING:
            yield self._leave(replay)

    def _leave(self, replay: Replay) -> Replay:
        try:
            return self._book.turn(replay.replay_id, ReplayState.STOPPED)
        except LedgerUnavailable as error:
            self._say(f"{error}; it still looks as if someone sent it")
            return replay

    def _next(self, replay: Replay) -> Replay | None:
        """Send the next chunk; None, with nothing written, where it was stopped, or someone else has sent on."""
        chunk = next_chunk(self._engine, replay, limit=self._limit, traces_topic=self._topics.traces_topic)
        outgoing = list(self._outgoing(replay, chunk))
        refused = chunk.cut + len(chunk.letters) + len(chunk.traces) - len(outgoing)
        found = self._book.find(replay.replay_id)
        if found.state is not ReplayState.SENDING or found.cursor != replay.cursor:
            return self._overtaken(found)
        delivered, unsendable = deliver(self._producer, outgoing)
        for message, error in unsendable:
            self._say(f"{message.name} cannot be sent, and is left out: {error}")
        chunked = Chunked(
            cursor=chunk.cursor,
            sent=len(delivered),
            refused=refused + len(unsendable),
            places=[(place.partition, place.offset) for message, place in delivered if message.letter is None],
            letters=[message.letter for message, _ in delivered if message.letter is not None],
            done=chunk.done,
        )
        return self._book.advance(replay, chunked) or self._overtaken(self._book.find(replay.replay_id))

    @staticmethod
    def _overtaken(found: Replay) -> None:
        if found.state is ReplayState.SENDING:
            logger.warning("another process sends this replay", extra={"replay": found.replay_id})

    def _outgoing(self, replay: Replay, chunk: Chunk) -> Iterator[Outgoing]:
        for trace in chunk.traces:
            yield Outgoing(
                name=f"trace {trace.tenant}/{trace.trace_id}",
                topic=self._topics.replays_topic,
                key=f"{trace.tenant}|{trace.trace_id}".encode(),
                value=encode_trace(trace),
                headers=headers(replay.replay_id, replay.judge_version or ""),
            )
        for letter in chunk.letters:
            # What cannot be read now either would only die again, and a run of such stops the live judges.
            if (key := key_of(letter.raw)) is not None:
                yield Outgoing(
                    name=f"dead letter {'/'.join(map(str, letter.place))}",
                    topic=self._topics.traces_topic,
                    key=key,
                    value=letter.raw,
                    letter=letter.place,
                )


def key_of(raw: bytes) -> bytes | None:
    """The key that a sidecar would give a record of the traces topic; None for one that is no trace."""
    try:
        trace = decode_trace(raw, now=datetime.now(UTC))
    except InvalidTrace:
        return None
    return f"{trace.tenant}|{trace.trace_id}".encode()
