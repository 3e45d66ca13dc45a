"""The ledger worker's work: judgements, dead letters and feedback in, rows in Postgres out, each exactly once.

    rag.judgements.v1 ───┬─▶ decode ─▶ Ledger.record, one transaction a chunk
    rag.dead-letters.v1 ─┘      └─▶ what cannot be read, or never be stored ─▶ dead letter, in the ledger
    rag.feedback.v1 ─▶ FeedbackService, a transaction of its own  ─┘

A record that Postgres refuses must not stop the topic behind it: the chunk is halved until the culprit is alone.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from monitor.domain.dead_letter import DeadLetter, DeadLetterReason
from monitor.domain.errors import InvalidMessage, InvalidTrace
from monitor.domain.trace import Origin
from monitor.domain.verdict import Assessment
from monitor.services.burial import dead_letter, place
from monitor.services.chunks import chunks
from monitor.services.feedback import FeedbackService
from monitor.storage.feedback import FeedbackReport
from monitor.storage.ledger import Ledger, RecordReport
from monitor.streaming.consume import Record
from monitor.wire import MAX_DEAD_LETTER_BYTES, decode_assessment, decode_dead_letter, encode_trace

logger = logging.getLogger(__name__)

_Message: TypeAlias = Assessment | DeadLetter


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What became of one chunk of a batch: for telemetry.

    Attributes:
        reports: of the transactions that it took, usually one.
        refused: records that only the ledger knows as dead letters: unreadable, or never to be stored.
        feedback: how much of it was new, and how much was known.
        behind: by topic and partition, records that lay behind the last one worked on, where known.
    """

    reports: tuple[RecordReport, ...]
    refused: tuple[DeadLetter, ...]
    feedback: FeedbackReport
    behind: dict[tuple[str, int], int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """A record that could be decoded, with its own place and bytes."""

    record: Record
    message: _Message


class LedgerService:
    """Works on one batch after another; call `work` from one thread at a time.

    Args:
        ledger: where it all goes.
        dead_letters_topic: its records are dead letters.
        feedback: works on the records of its own topic. Those of all other topics are judgements.
        clock: the time now, aware; it dates dead letters.
        observe: told of each chunk of a batch once it is durable.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        dead_letters_topic: str,
        feedback: FeedbackService,
        clock: Callable[[], datetime],
        observe: Callable[[Recorded], None],
    ) -> None:
        self._ledger = ledger
        self._dead_letters_topic = dead_letters_topic
        self._feedback = feedback
        self._clock = clock
        self._observe = observe

    def work(self, records: Sequence[Record]) -> None:
        """Record everything and return once it is committed. Blocks.

        Raises:
            LedgerUnavailable: part of it may be committed; call again with the same records, which is harmless.
        """
        for chunk in chunks(records):
            self._work_chunk(chunk)

    def _work_chunk(self, records: Sequence[Record]) -> None:
        said = self._feedback.work([record for record in records if record.topic == self._feedback.topic])
        readable: list[_Read] = []
        strays = list(said.refused)
        for record in (record for record in records if record.topic != self._feedback.topic):
            try:
                readable.append(_Read(record=record, message=self._decode(record)))
            except InvalidMessage as error:
                strays.append(self._dead(record, place(record), DeadLetterReason.UNREADABLE, str(error)))
        reports, refused = self._record(readable)
        if strays:
            self._ledger.record_strays(strays)
        for letter in (*strays, *refused):
            logger.error("the ledger cannot take a record", extra={"origin": letter.origin, "detail": letter.detail})
        self._observe(
            Recorded(
                reports=tuple(reports),
                refused=(*strays, *refused),
                feedback=said.report,
                behind=_behind(records),
            )
        )

    def _decode(self, record: Record) -> _Message:
        if record.topic == self._dead_letters_topic:
            return decode_dead_letter(record.value)
        return decode_assessment(record.value)

    def _record(self, batch: Sequence[_Read]) -> tuple[list[RecordReport], list[DeadLetter]]:
        if not batch:
            return [], []
        try:
            return [self._ledger.record(*_apart(batch))], []
        except (InvalidMessage, InvalidTrace) as error:
            if len(batch) == 1:
                return self._bury(batch[0], str(error))
        middle = len(batch) // 2
        first, first_refused = self._record(batch[:middle])
        second, second_refused = self._record(batch[middle:])
        return first + second, first_refused + second_refused

    def _bury(self, read: _Read, problem: str) -> tuple[list[RecordReport], list[DeadLetter]]:
        # Under the trace's own origin: so the trace is accounted for.
        letter = self._dead(read.record, read.message.origin, DeadLetterReason.INVALID, f"not storable: {problem}")
        # And with what lay there, not with what a judge made of it: it may be sent again.
        lay = read.message.raw if isinstance(read.message, DeadLetter) else encode_trace(read.message.trace)
        whole = read.message.raw_bytes if isinstance(read.message, DeadLetter) else len(lay)
        ours = replace(letter, raw=lay[:MAX_DEAD_LETTER_BYTES], raw_bytes=whole)
        try:
            return [self._ledger.record([], [ours])], [ours]
        except InvalidMessage:
            # The origin itself cannot be stored: under the record's own place then, without a receipt.
            stray = replace(letter, origin=place(read.record))
            self._ledger.record_strays([stray])
            return [], [stray]

    def _dead(self, record: Record, origin: Origin, reason: DeadLetterReason, detail: str) -> DeadLetter:
        return dead_letter(record, origin, reason, detail, now=self._clock())


def _apart(batch: Sequence[_Read]) -> tuple[list[Assessment], list[DeadLetter]]:
    messages = [read.message for read in batch]
    return (
        [message for message in messages if isinstance(message, Assessment)],
        [message for message in messages if isinstance(message, DeadLetter)],
    )


def _behind(records: Sequence[Record]) -> dict[tuple[str, int], int]:
    # In order within a partition: its last record of the batch counts.
    return {
        (record.topic, record.partition): record.high_watermark - record.offset - 1
        for record in records
        if record.high_watermark is not None
    }
