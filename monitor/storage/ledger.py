"""The write path: batches of assessments and dead letters, each in one transaction, each exactly once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg
from sqlalchemy import Connection, Engine

from monitor.domain.dead_letter import DeadLetter
from monitor.domain.trace import Origin
from monitor.domain.verdict import Assessment
from monitor.storage import staging, statements
from monitor.storage.engine import retry_conflicts, transaction
from monitor.storage.revision import reconsider
from monitor.storage.rows import (
    Row,
    assessment_row,
    dead_letter_row,
    judge_row,
    judgement_rows,
    position,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordReport:
    """What one batch added to the ledger, in records of the traces topic.

    Attributes:
        verdicts, unjudged, pending, dead_letters, duplicates: new receipts, by outcome.
        escalated: of these, traces that now wait for the pool.
        redelivered: records that had a receipt already, or came twice in the batch; nothing was done for them.
        reconsidered: of the duplicates, replayed traces that their judge version could not judge before, and now can.
    """

    verdicts: int = 0
    unjudged: int = 0
    pending: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    escalated: int = 0
    redelivered: int = 0
    reconsidered: int = 0

    @property
    def inserted(self) -> int:
        """Records that the ledger had not seen before."""
        return self.verdicts + self.unjudged + self.pending + self.dead_letters + self.duplicates


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    """Everything to be copied, ready before the transaction begins, so that it is short and can be repeated."""

    alive: list[Assessment]
    assessments: list[Row]
    judgements: list[Row]
    judges: list[Row]
    dead_letters: list[Row]
    ends: dict[tuple[str, int], int]
    records: int
    otel_traces: bool
    replays: set[tuple[str, int]]


class Ledger:
    """Verdict history, rollups, accounting and the escalation queue, always of one mind.

    Args:
        engine: of the ledger.
        dimensions: by which first verdicts are counted besides: `generator_model`, `prompt_version`, or a tag's name.
    """

    def __init__(self, engine: Engine, *, dimensions: Sequence[str] = ()) -> None:
        self._engine = engine
        self._dimensions = list(dimensions)

    def record(self, assessments: Sequence[Assessment], dead_letters: Sequence[DeadLetter] = ()) -> RecordReport:
        """Write a batch in one transaction. Records already written, here or by another ledger, change nothing.

        Args:
            assessments: what the judge worker said; `origin` is the record's place in the traces topic.
            dead_letters: records of the traces topic that could not be judged at all.

        Raises:
            LedgerUnavailable: nothing was written; the same batch may be tried again.
            LedgerRefused: Postgres will never take one of these records; nothing was written.
        """
        batch = _prepare(assessments, dead_letters)
        if not batch.records:
            return RecordReport()
        return retry_conflicts(lambda: self._write(batch))

    def record_strays(self, letters: Sequence[DeadLetter]) -> None:
        """Keep unreadable records of *other* topics than the traces topic: they have no receipt to be given."""
        rows = sorted((dead_letter_row(letter) for letter in letters), key=lambda row: row[:3])
        with transaction(self._engine) as connection, _driver(connection).cursor() as cursor:
            cursor.execute(staging.STAGE)
            _copy(cursor, staging.COPY_DEAD_LETTERS, rows)
            cursor.execute(statements.INSERT_DEAD_LETTERS)

    def _write(self, batch: _Batch) -> RecordReport:
        with transaction(self._engine) as connection, _driver(connection).cursor() as cursor:
            cursor.execute(staging.STAGE)
            _copy(cursor, staging.COPY_ASSESSMENTS, batch.assessments)
            _copy(cursor, staging.COPY_JUDGEMENTS, batch.judgements)
            _copy(cursor, staging.COPY_DEAD_LETTERS, batch.dead_letters)
            if batch.judges:
                cursor.executemany(statements.INSERT_JUDGE, batch.judges)
            cursor.execute(statements.INSERT_TRACES)
            cursor.execute(statements.DECIDE_FATES)
            written: dict[str, int] = dict(cursor.execute(statements.INSERT_RECEIPTS))
            escalated = 0
            reconsidered: list[int] = []
            if written:
                if batch.replays:
                    reconsidered = [number for (number,) in cursor.execute(statements.SELECT_RECONSIDERED)]
                cursor.execute(statements.INSERT_VERDICTS)
                if batch.otel_traces:
                    cursor.execute(statements.INSERT_OTEL_TRACES)
                cursor.execute(statements.INSERT_JUDGEMENTS)
                escalated = cursor.execute(statements.INSERT_ESCALATIONS).rowcount
                cursor.execute(statements.INSERT_DEAD_LETTERS)
            cursor.execute(statements.UPSERT_INTAKE, _ends(batch))
            if written:
                cursor.execute(statements.UPSERT_ROLLUPS)
                if self._dimensions:
                    cursor.execute(statements.UPSERT_SLICES, {"dimensions": self._dimensions})
                cursor.execute(statements.INSERT_SEGMENT_HOURS)
            for number in reconsidered:
                reconsider(connection, batch.alive[number])
        return RecordReport(
            verdicts=written.get("verdict", 0),
            unjudged=written.get("unjudged", 0),
            pending=written.get("pending", 0),
            dead_letters=written.get("dead_letter", 0),
            duplicates=written.get("duplicate", 0),
            escalated=escalated,
            redelivered=batch.records - sum(written.values()),
            reconsidered=len(reconsidered),
        )


def _prepare(assessments: Sequence[Assessment], dead_letters: Sequence[DeadLetter]) -> _Batch:
    # One record twice in a batch is a redelivery; all its copies say the same, so the first will do.
    alive = {position(assessment.origin): assessment for assessment in reversed(assessments)}
    dead = {position(letter.origin): letter for letter in reversed(dead_letters)}
    origins = [item.origin for item in assessments] + [letter.origin for letter in dead_letters]
    said = [judgement for assessment in alive.values() for judgement in assessment.judgements]
    return _Batch(
        alive=list(alive.values()),
        assessments=[assessment_row(number, assessment) for number, assessment in enumerate(alive.values())],
        judgements=[
            row for number, assessment in enumerate(alive.values()) for row in judgement_rows(number, assessment)
        ],
        judges=sorted(judge_row(judge) for judge in {judgement.judge for judgement in said}),
        dead_letters=[dead_letter_row(letter) for letter in dead.values()],
        ends=_partition_ends(origins),
        records=len(assessments) + len(dead_letters),
        replays={(origin.log, origin.partition) for origin in origins if origin.replay_id is not None},
        otel_traces=any(one.trace.otel_trace_id not in (None, one.trace.trace_id) for one in assessments),
    )


def _partition_ends(origins: Iterable[Origin]) -> dict[tuple[str, int], int]:
    ends: dict[tuple[str, int], int] = {}
    for origin in origins:
        key = (origin.log, origin.partition)
        ends[key] = max(ends.get(key, 0), origin.high_watermark or 0, origin.offset + 1)
    return ends


def _ends(batch: _Batch) -> dict[str, list[str] | list[int] | list[bool]]:
    ends = batch.ends
    return {
        "topics": [topic for topic, _ in ends],
        "partitions": [partition for _, partition in ends],
        "replays": [place in batch.replays for place in ends],
        "high_watermarks": list(ends.values()),
    }


def _driver(connection: Connection) -> psycopg.Connection[Row]:
    # COPY is the driver's own; SQLAlchemy keeps the pool, the transaction and the clean-up.
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _copy(cursor: psycopg.Cursor[Row], statement: str, rows: Sequence[Row]) -> None:
    if not rows:
        return
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
