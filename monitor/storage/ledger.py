"""The write path: batches of assessments and dead letters, each in one transaction, each exactly once."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import errors as pg
from sqlalchemy import Connection, Engine

from monitor.domain.dead_letter import DeadLetter
from monitor.domain.trace import Origin
from monitor.domain.verdict import Action, Assessment
from monitor.storage import statements
from monitor.storage.days import Days
from monitor.storage.engine import LedgerConflict, LedgerRefused, driver_cursor, retry_conflicts, transaction
from monitor.storage.planning import Plan, make_plan, partition_key
from monitor.storage.receipts import COPY_RANGES, PartitionKey, ranges, read_receipts
from monitor.storage.revision import reconsider
from monitor.storage.rows import (
    Row,
    dead_letter_row,
    decision_words,
    escalation_row,
    judge_row,
    judgement_row,
    payload_row,
    segment_words,
    verdict_row,
)
from monitor.storage.tallies import Tallies
from monitor.storage.words import CHOICES, DECISIONS, SEGMENTS, TOPICS, numbers

_BLOCK = 16_384
"""Verdict ids in a block of the sequence `verdict_blocks`."""

_COUNTED = ("verdict", "unjudged", "pending", "dead_letter", "duplicate")
_Cursor = psycopg.Cursor[Any]


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


class Ledger:
    """Verdict history, rollups, accounting and the escalation queue, always of one mind.

    Args:
        engine: of the ledger.
        dimensions: by which first verdicts are counted besides: `generator_model`, `prompt_version`, or a tag's name.
    """

    def __init__(self, engine: Engine, *, dimensions: Sequence[str] = ()) -> None:
        self._engine = engine
        self._dimensions = tuple(dimensions)
        self._days = Days(engine)

    def record(self, assessments: Sequence[Assessment], dead_letters: Sequence[DeadLetter] = ()) -> RecordReport:
        """Write a batch in one transaction. Records already written, here or by another ledger, change nothing.

        Args:
            assessments: what the judge worker said; `origin` is the record's place in the traces topic.
            dead_letters: records of the traces topic that could not be judged at all.

        Raises:
            LedgerUnavailable: nothing was written; the same batch may be tried again.
            LedgerRefused: Postgres will never take one of these records; nothing was written.
        """
        if not assessments and not dead_letters:
            return RecordReport()
        try:
            return retry_conflicts(lambda: self._record(assessments, dead_letters))
        except LedgerConflict as conflict:
            if isinstance(conflict.__cause__, pg.UniqueViolation):
                # It is no race then: the record is at odds with one that is there, and waiting would be for ever.
                raise LedgerRefused(str(conflict.__cause__)) from conflict
            raise

    def record_strays(self, letters: Sequence[DeadLetter]) -> None:
        """Keep unreadable records of *other* topics than the traces topic: they have no receipt to be given."""
        with transaction(self._engine) as connection, driver_cursor(connection) as cursor:
            _insert_dead(cursor, letters)

    def _record(self, assessments: Sequence[Assessment], dead_letters: Sequence[DeadLetter]) -> RecordReport:
        self._days.ensure(assessment.trace.event_time for assessment in assessments)
        with transaction(self._engine) as connection:
            try:
                return self._write(connection, assessments, dead_letters)
            except pg.UniqueViolation as error:
                # Another ledger has the same trace by another partition of the topic, and wrote it just now.
                raise LedgerConflict(str(error)) from error
            except pg.CheckViolation as error:
                if error.diag.constraint_name is not None:
                    raise
                # Retention dropped the day meanwhile.
                self._days.forget()
                raise LedgerConflict(str(error)) from error

    def _write(
        self, connection: Connection, assessments: Sequence[Assessment], letters: Sequence[DeadLetter]
    ) -> RecordReport:
        cursor = driver_cursor(connection)
        cursor.execute(statements.PREPARE)
        _introduce(cursor, assessments)
        segments = numbers(cursor, SEGMENTS, map(segment_words, assessments))
        origins = [*(one.origin for one in assessments), *(one.origin for one in letters)]
        ends = _partition_ends(origins)
        topics = {topic: number for (topic,), number in numbers(cursor, TOPICS, ((log,) for log, _ in ends)).items()}
        of_replays = {(origin.log, origin.partition) for origin in origins if origin.replay_id is not None}
        cursor.execute(statements.HOLD_PARTITIONS, _columns((*key, key in of_replays) for key in sorted(ends)))
        plan = make_plan(cursor, assessments, letters, topics)
        escalated = 0
        if plan.written:
            tallies = Tallies(dimensions=self._dimensions)
            escalated = _insert_traces(cursor, plan, tallies, segments, topics)
        _insert_receipts(cursor, plan, topics)
        _count_intake(cursor, plan, ends, topics)
        if plan.written:
            _count(cursor, tallies)
        for said in plan.reconsidered:
            reconsider(connection, said)
        counts = plan.counts
        return RecordReport(
            verdicts=counts["verdict"],
            unjudged=counts["unjudged"],
            pending=counts["pending"],
            dead_letters=counts["dead_letter"],
            duplicates=counts["duplicate"],
            escalated=escalated,
            redelivered=len(assessments) + len(letters) - counts.total(),
            reconsidered=len(plan.reconsidered),
        )


def settle_offsets(cursor: _Cursor, log: str, partition: int, offsets: Sequence[int], *, outcome: str) -> int:
    """Give records a receipt with this outcome, those that have none, in the caller's transaction; how many."""
    topics = {log: numbers(cursor, TOPICS, [(log,)])[log,]}
    cursor.execute(statements.HOLD_PARTITIONS, _columns([(log, partition, False)]))
    key = (topics[log], partition)
    known = read_receipts(cursor, {key: offsets})
    plan = Plan()
    plan.outcomes[key] = {offset: outcome for offset in offsets if not known.has(key, offset)}
    if plan.outcomes[key]:
        _insert_receipts(cursor, plan, topics)
        _count_intake(cursor, plan, {(log, partition): max(plan.outcomes[key]) + 1}, topics)
    return len(plan.outcomes[key])


def _introduce(cursor: _Cursor, assessments: Sequence[Assessment]) -> None:
    """Keep who the judges are, by their versions."""
    judges = {judgement.judge for assessment in assessments for judgement in assessment.judgements}
    if judges:
        cursor.execute(statements.INSERT_JUDGES, _columns(sorted(map(judge_row, judges))))


def _insert_traces(
    cursor: _Cursor,
    plan: Plan,
    tallies: Tallies,
    segments: Mapping[tuple[str, ...], int],
    topics: Mapping[str, int],
) -> int:
    """Write verdicts and what belongs to them; returns how many traces wait for the pool."""
    words = [decision_words(one.said) for one in plan.written]
    decisions = numbers(cursor, DECISIONS, words)
    choices = numbers(cursor, CHOICES, (each for one in plan.written for each in one.judged_by))
    verdicts: list[Row] = []
    judgements: list[Row] = []
    for verdict_id, one, decision in zip(_verdict_ids(cursor, len(plan.written)), plan.written, words, strict=True):
        segment_id = segments[segment_words(one.said)]
        tallies.add(segment_id, one)
        topic_id = topics[one.said.origin.log]
        verdicts.append(verdict_row(one.said, one.outcome, (verdict_id, segment_id, decisions[decision], topic_id)))
        for sequence, (judgement, judged_by) in enumerate(zip(one.said.judgements, one.judged_by, strict=True)):
            ids = (verdict_id, segment_id, choices[judged_by])
            judgements.append(judgement_row(one.said, judgement, ids, sequence))
    _copy(cursor, statements.COPY_VERDICTS, verdicts)
    _copy(cursor, statements.COPY_JUDGEMENTS, judgements)
    payloads = [payload_row(one.said.trace) for one in plan.written if not one.has_payload]
    _copy(cursor, statements.COPY_PAYLOADS, payloads)
    waiting = [escalation_row(one.said) for one in plan.written if one.said.decision.action is Action.ESCALATE]
    _copy(cursor, statements.COPY_ESCALATIONS, waiting)
    traces = [one.said.trace for one in plan.written]
    by_others = (one for one in traces if one.otel_trace_id not in (None, one.trace_id))
    if named := {(one.tenant, one.otel_trace_id, one.trace_id, one.event_time) for one in by_others}:
        cursor.execute(statements.INSERT_OTEL_TRACES, _columns(named))
    return len(waiting)


def _verdict_ids(cursor: _Cursor, count: int) -> list[int]:
    blocks = [block for (block,) in cursor.execute(statements.TAKE_BLOCKS, (1 + (count - 1) // _BLOCK,))]
    return [blocks[place // _BLOCK] * _BLOCK + place % _BLOCK for place in range(count)]


def _insert_receipts(cursor: _Cursor, plan: Plan, topics: Mapping[str, int]) -> None:
    found = [(*key, one.first, one.outcomes) for key, some in sorted(plan.outcomes.items()) for one in ranges(some)]
    _copy(cursor, COPY_RANGES, found)
    repeated = [
        (
            *(*partition_key(one.origin, topics), one.origin.offset),
            *(one.trace.tenant, one.trace.trace_id, one.trace.event_time),
        )
        for one in plan.duplicates
    ]
    _copy(cursor, statements.COPY_DUPLICATES, repeated)
    _insert_dead(cursor, plan.dead)


def _insert_dead(cursor: _Cursor, letters: Sequence[DeadLetter]) -> None:
    if letters:
        rows = sorted(map(dead_letter_row, letters), key=lambda row: row[:3])
        cursor.executemany(statements.INSERT_DEAD_LETTER, rows)


def _count_intake(cursor: _Cursor, plan: Plan, ends: Mapping[tuple[str, int], int], topics: Mapping[str, int]) -> None:
    ((now,),) = cursor.execute(statements.NOW)
    newest: dict[PartitionKey, datetime] = {}
    for said in (*(one.said for one in plan.written), *plan.duplicates):
        at = said.trace.event_time
        # What is dated ahead of time says nothing of how far a partition has come; replays are old.
        if at <= now and said.origin.replay_id is None:
            key = partition_key(said.origin, topics)
            newest[key] = max(newest.get(key, at), at)
    rows = []
    for (topic, partition), end in ends.items():
        key = (topics[topic], partition)
        outcomes = plan.outcomes.get(key, {})
        counts = Counter(outcomes.values())
        counted = [counts[outcome] for outcome in _COUNTED]
        rows.append((topic, partition, end, max(outcomes, default=-1) + 1, *counted, newest.get(key)))
    cursor.execute(statements.COUNT_INTAKE, _columns(rows))


def _count(cursor: _Cursor, tallies: Tallies) -> None:
    cursor.execute(statements.UPSERT_ROLLUPS, tallies.rollup_columns())
    if tallies.costs:
        cursor.execute(statements.UPSERT_COSTS, tallies.cost_columns())
    if tallies.slices:
        cursor.execute(statements.UPSERT_SLICES, tallies.slice_columns())
    if tallies.hours:
        cursor.execute(statements.INSERT_SEGMENT_HOURS, tallies.hour_columns())


def _partition_ends(origins: Iterable[Origin]) -> dict[tuple[str, int], int]:
    ends: dict[tuple[str, int], int] = {}
    for origin in origins:
        key = (origin.log, origin.partition)
        ends[key] = max(ends.get(key, 0), origin.high_watermark or 0, origin.offset + 1)
    return ends


def _columns(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _copy(cursor: _Cursor, statement: str, rows: Sequence[Row]) -> None:
    if not rows:
        return
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
