"""What became of answers, kept beside the verdicts and joined to them only when it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql import insert

from monitor.domain.feedback import Feedback
from monitor.storage.engine import retry_conflicts, transaction
from monitor.storage.storable import storable
from monitor.storage.tables import feedback as table


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackReport:
    """How much of a batch was new, and how much was known."""

    recorded: int = 0
    repeated: int = 0


class FeedbackBook:
    """Keeps feedback, the first word of each (tenant, feedback id). No rate and no calibration reads it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def record(self, said: Sequence[Feedback]) -> FeedbackReport:
        """Write a batch in one transaction. What is known already changes nothing; its trace need not be known.

        Raises:
            LedgerUnavailable: nothing was written; the same batch may be tried again.
            LedgerRefused: Postgres will never take one of these; nothing was written.
        """
        if not said:
            return FeedbackReport()
        first = {(one.tenant, one.feedback_id): one for one in reversed(said)}
        # In one order, whoever writes: two writers of the same feedback never wait for each other in a ring.
        values = [_row(first[key]) for key in sorted(first)]
        add = insert(table).on_conflict_do_nothing().returning(table.c.feedback_id)

        def write() -> int:
            with transaction(self._engine) as connection:
                return len(connection.execute(add, values).all())

        recorded = retry_conflicts(write)
        return FeedbackReport(recorded=recorded, repeated=len(said) - recorded)


def _row(said: Feedback) -> dict[str, object]:
    return {
        "tenant": said.tenant,
        "feedback_id": said.feedback_id,
        "trace_id": said.trace_id,
        "otel_trace_id": said.otel_trace_id,
        "given_at": said.time,
        "source": said.source.value,
        "thumb": said.thumb.value if said.thumb else None,
        "outcome": said.outcome,
        "corrected_answer": _text(said.corrected_answer),
        "comment": _text(said.comment),
    }


def _text(said: str | None) -> str | None:
    # An empty one says nothing, and is not counted as if it did.
    return storable(said) if said else None
