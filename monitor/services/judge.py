"""The judge worker's work: records of traces in, judgements and dead letters out, none lost.

    record ─▶ decode ─┬─▶ cascade ─▶ judgement ─▶ rag.judgements.v1
                      └─▶ dead letter ──────────▶ rag.dead-letters.v1

The same record in gives the same record's word out: sending twice is harmless, for the ledger knows a record
by its place in the traces topic.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from monitor.config import KafkaSettings
from monitor.domain.dead_letter import DeadLetter, DeadLetterReason
from monitor.domain.errors import InvalidTrace, RecordRefused, StreamUnavailable
from monitor.domain.trace import Origin, Trace
from monitor.domain.verdict import Assessment
from monitor.services.chunks import chunks
from monitor.services.dead_letters import DeadLetterCap
from monitor.services.fitting import encode_fitting
from monitor.services.replay_headers import replay_of, wanted_version
from monitor.services.sending import Sender
from monitor.streaming.consume import Record
from monitor.wire import (
    MAX_DEAD_LETTER_BYTES,
    decode_assessment,
    decode_dead_letter,
    decode_trace,
    encode_dead_letter,
    encode_trace,
)

logger = logging.getLogger(__name__)

# The producer gives up earlier by itself; this only keeps a lost receipt from stopping the worker.
_DELIVERY_SECONDS = 120.0

_REFUSED_RAW_BYTES = 64 * 1024
"""Of a record whose message Kafka refused, so much is kept."""


class Assessor(Protocol):
    """Judges batches of traces: `monitor.inference.cascade.Cascade`."""

    def assess(self, items: Sequence[tuple[Trace, Origin]]) -> list[Assessment]:
        """One assessment an item, in order. Blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Worked:
    """What became of one chunk of a batch: for telemetry.

    Attributes:
        behind: records that wait behind the chunk, by partition, as far as the partition's end was known.
    """

    assessments: tuple[Assessment, ...]
    dead_letters: tuple[DeadLetter, ...]
    behind: Mapping[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outgoing:
    topic: str
    key: bytes
    value: bytes


@dataclass(kw_only=True, slots=True)
class _Prepared:
    """A judged chunk, ready to be sent, and sent again when Kafka fails: judging is the expensive part.

    What Kafka refuses is replaced in `messages`.
    """

    messages: tuple[_Outgoing, ...]
    worked: Worked


@dataclass(kw_only=True, slots=True)
class _Begun:
    """How far the work on one batch has come; it outlives the failures of Kafka in between."""

    positions: tuple[tuple[str, int, int], ...]
    chunks_done: int = 0
    prepared: _Prepared | None = None


class JudgeService:
    """Works on one batch after another; call `work` from one thread at a time.

    Args:
        cascade: judges.
        producer: writes; closed by whoever made it.
        topics: where judgements and dead letters go.
        topic_id: the traces topic's id, which tells its lives apart; None where the broker gives none.
        cap: stops the worker when too much is wrong.
        clock: the time now, aware; it bounds event times and dates dead letters.
        observe: told of each chunk of a batch once its messages are durable.
        version: the cascade's, where records are replays: those for another version are passed over, for a worker of
            that version reads the topic too, in a consumer group of its own.
    """

    def __init__(
        self,
        *,
        cascade: Assessor,
        producer: Sender,
        topics: KafkaSettings,
        topic_id: str | None,
        cap: DeadLetterCap,
        clock: Callable[[], datetime],
        observe: Callable[[Worked], None],
        version: str | None = None,
    ) -> None:
        self._cascade = cascade
        self._producer = producer
        self._topics = topics
        self._topic_id = topic_id
        self._cap = cap
        self._clock = clock
        self._observe = observe
        self._version = version
        self._begun: _Begun | None = None
        self._others: set[str] = set()

    def work(self, records: Sequence[Record]) -> None:
        """Judge the records and return once each has a durable judgement or dead letter. Blocks.

        Raises:
            StreamUnavailable: not all are durable; call again with the same records, which are not judged anew.
            DeadLetterLimit: too much is wrong; nothing was sent of the chunk that went over the limit.
        """
        positions = tuple((record.topic, record.partition, record.offset) for record in records)
        if self._begun is None or self._begun.positions != positions:
            self._begun = _Begun(positions=positions)
        for number, chunk in enumerate(chunks(records)):
            if number >= self._begun.chunks_done:
                self._work_chunk(chunk, self._begun)
        self._begun = None

    def _work_chunk(self, records: Sequence[Record], begun: _Begun) -> None:
        if begun.prepared is None:
            begun.prepared = self._prepare(records)
        self._deliver(begun.prepared)
        self._observe(begun.prepared.worked)
        begun.prepared = None
        begun.chunks_done += 1

    def _prepare(self, records: Sequence[Record]) -> _Prepared:
        decoded = [self._decode(record) for record in records if self._is_ours(record)]
        letters = tuple(item for item in decoded if isinstance(item, DeadLetter))
        self._cap.admit(isinstance(item, DeadLetter) for item in decoded)
        alive = [item for item in decoded if not isinstance(item, DeadLetter)]
        assessments = tuple(self._cascade.assess(alive)) if alive else ()
        messages = (*map(self._said, assessments), *map(self._dead_letter_message, letters))
        for letter in letters:
            logger.warning("dead letter", extra={"origin": str(letter.origin), "reason": letter.reason.value})
        worked = Worked(assessments=assessments, dead_letters=letters, behind=_behind(records))
        return _Prepared(messages=messages, worked=worked)

    def _is_ours(self, record: Record) -> bool:
        """Whether this worker is to judge it; no word is said of what is another's, which would count it twice."""
        wanted = wanted_version(record) if self._version else None
        if wanted is None or wanted == self._version:
            return True
        if wanted not in self._others:
            self._others.add(wanted)
            logger.info("passing over what another version is to judge", extra={"ours": self._version, "other": wanted})
        return False

    def _decode(self, record: Record) -> tuple[Trace, Origin] | DeadLetter:
        origin = Origin(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            high_watermark=record.high_watermark,
            topic_id=self._topic_id,
            replay_id=replay_of(record) if self._version else None,
        )
        try:
            return decode_trace(record.value, now=self._clock()), origin
        except InvalidTrace as error:
            return DeadLetter(
                origin=origin,
                reason=error.reason,
                detail=error.problem,
                field=None if error.field == "$" else error.field,
                raw=record.value[:MAX_DEAD_LETTER_BYTES],
                raw_bytes=len(record.value),
                dead_at=self._clock(),
            )

    def _said(self, assessment: Assessment) -> _Outgoing:
        try:
            return self._judgement_message(assessment)
        except Exception as error:
            # Whatever it is, it is this record's alone, and would end the worker again and again.
            logger.exception("a judgement cannot be encoded", extra={"origin": str(assessment.origin)})
            detail = f"its judgement cannot be encoded: {type(error).__name__}"
            return self._dead_letter_message(self._unsent(assessment, DeadLetterReason.INVALID, detail))

    def _unsent(self, assessment: Assessment, reason: DeadLetterReason, detail: str) -> DeadLetter:
        raw = encode_trace(assessment.trace)
        return DeadLetter(
            origin=assessment.origin,
            reason=reason,
            detail=detail,
            field=None,
            raw=raw[:_REFUSED_RAW_BYTES],
            raw_bytes=len(raw),
            dead_at=self._clock(),
        )

    def _judgement_message(self, assessment: Assessment) -> _Outgoing:
        trace = assessment.trace
        return _Outgoing(
            topic=self._topics.judgements_topic,
            # One key a trace: its records keep their order, whoever judged them.
            key=f"{trace.tenant}|{trace.trace_id}".encode(),
            value=encode_fitting(assessment),
        )

    def _dead_letter_message(self, letter: DeadLetter) -> _Outgoing:
        origin = letter.origin
        return _Outgoing(
            topic=self._topics.dead_letters_topic,
            key=f"{origin.topic}/{origin.partition}/{origin.offset}".encode(),
            value=encode_dead_letter(letter),
        )

    def _deliver(self, prepared: _Prepared) -> None:
        refused, failure = self._send(prepared.messages)
        if refused:
            # A topic that takes less than ours would: its other records must not wait for this one for ever.
            logger.error(
                "Kafka refuses records; is max.message.bytes of the topics too small?", extra={"refused": len(refused)}
            )
            smaller = {message: self._smaller(message) for message in refused}
            # Before anything else fails: a refusal can take others in flight with it, and would at every retry.
            prepared.messages = tuple(smaller.get(message, message) for message in prepared.messages)
            if failure is None:
                still, failure = self._send(list(smaller.values()))
                if still:
                    raise RecordRefused(f"{len(still)} dead letters of {_REFUSED_RAW_BYTES} bytes and less")
        if failure is not None:
            raise failure

    def _send(self, messages: Sequence[_Outgoing]) -> tuple[list[_Outgoing], StreamUnavailable | None]:
        """Send all and wait for their receipts; returns those refused for their own sake, and what else failed."""
        receipts: dict[Future[Any], _Outgoing] = {}
        refused: list[_Outgoing] = []
        failure: StreamUnavailable | None = None
        for message in messages:
            try:
                receipts[self._producer.send(message.topic, message.key, message.value)] = message
            except RecordRefused:
                refused.append(message)
            except StreamUnavailable as error:
                failure = error
                break
        done, late = wait(receipts, timeout=_DELIVERY_SECONDS)
        for receipt in done:
            try:
                receipt.result()
            except RecordRefused:
                refused.append(receipts[receipt])
            except StreamUnavailable as error:
                failure = error
        if late:
            failure = StreamUnavailable(
                f"{len(late)} of {len(receipts)} records had no receipt in {_DELIVERY_SECONDS} s"
            )
        return refused, failure

    def _smaller(self, message: _Outgoing) -> _Outgoing:
        """What is sent in a refused message's place: a dead letter with the first bytes only."""
        if message.topic == self._topics.dead_letters_topic:
            letter = decode_dead_letter(message.value)
            return self._dead_letter_message(replace(letter, raw=letter.raw[:_REFUSED_RAW_BYTES]))
        detail = f"Kafka refused its judgement of {len(message.value)} bytes"
        return self._dead_letter_message(
            self._unsent(decode_assessment(message.value), DeadLetterReason.TOO_LARGE, detail)
        )


def _behind(records: Sequence[Record]) -> dict[int, int]:
    # In order within a partition: its last record of the batch counts.
    return {
        record.partition: record.high_watermark - record.offset - 1
        for record in records
        if record.high_watermark is not None
    }
