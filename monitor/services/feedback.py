"""The ledger worker's other work: feedback in, rows in Postgres out, each exactly once."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from monitor.domain.dead_letter import DeadLetter, DeadLetterReason
from monitor.domain.errors import InvalidFeedback, InvalidMessage
from monitor.domain.feedback import Feedback
from monitor.services.burial import dead_letter, place
from monitor.storage.feedback import FeedbackBook, FeedbackReport
from monitor.streaming.consume import Record
from monitor.wire import decode_feedback

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackRecorded:
    """What became of some records: how much was new or known, and what could not be taken."""

    report: FeedbackReport
    refused: tuple[DeadLetter, ...]


class FeedbackService:
    """Works on records of one topic. A trace is accounted for without a look at its feedback.

    Args:
        book: where it goes.
        topic: that feedback comes from.
        clock: the time now, aware; it bounds when feedback was given, and dates dead letters.
    """

    def __init__(self, *, book: FeedbackBook, topic: str, clock: Callable[[], datetime]) -> None:
        self._book = book
        self.topic = topic
        self._clock = clock

    def work(self, records: Sequence[Record]) -> FeedbackRecorded:
        """Record everything that can be; return once it is committed. What cannot be is the caller's to keep.

        Raises:
            LedgerUnavailable: part of it may be committed; call again with the same records, which is harmless.
        """
        readable: list[tuple[Record, Feedback]] = []
        refused: list[DeadLetter] = []
        for record in records:
            try:
                readable.append((record, decode_feedback(record.value, now=self._clock())))
            except InvalidFeedback as error:
                refused.append(self._dead(record, error.reason, error.problem, error.field))
        report, unstorable = self._record(readable)
        return FeedbackRecorded(report=report, refused=(*refused, *unstorable))

    def _record(self, batch: Sequence[tuple[Record, Feedback]]) -> tuple[FeedbackReport, list[DeadLetter]]:
        try:
            return self._book.record([feedback for _, feedback in batch]), []
        except InvalidMessage as error:
            if len(batch) == 1:
                problem = f"not storable: {error}"
                return FeedbackReport(), [self._dead(batch[0][0], DeadLetterReason.INVALID, problem, None)]
        middle = len(batch) // 2
        first, first_refused = self._record(batch[:middle])
        second, second_refused = self._record(batch[middle:])
        both = FeedbackReport(recorded=first.recorded + second.recorded, repeated=first.repeated + second.repeated)
        return both, first_refused + second_refused

    def _dead(self, record: Record, reason: DeadLetterReason, detail: str, field: str | None) -> DeadLetter:
        return dead_letter(record, place(record), reason, detail, field=field, now=self._clock())
