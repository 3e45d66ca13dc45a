"""The ledger worker's work: whatever lies in the topics is in Postgres afterwards, and nothing stops the topic."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine, select

from monitor.domain.dead_letter import DeadLetter, DeadLetterReason
from monitor.domain.errors import LedgerUnavailable
from monitor.domain.verdict import Assessment
from monitor.embedded.postgres import EmbeddedPostgres
from monitor.services.chunks import CHUNK_BYTES
from monitor.services.feedback import FeedbackService
from monitor.services.ledger import LedgerService, Recorded
from monitor.storage.accounting import accounting
from monitor.storage.engine import transaction
from monitor.storage.feedback import FeedbackBook
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.tables import dead_letters
from monitor.streaming.consume import Record
from monitor.wire import encode_assessment, encode_dead_letter, encode_trace
from tests.examples.assessments import NOON, TOPIC, assessment, dead_letter, verdict

JUDGEMENTS, DEAD = "rag.judgements.v1", "rag.dead-letters.v1"
UNSTORABLE = replace(assessment(2), outcome=replace(verdict(0.5), probability=1.5))


@pytest.fixture
def observed() -> list[Recorded]:
    return []


@pytest.fixture
def service(engine: Engine, ledger: Ledger, observed: list[Recorded]) -> LedgerService:
    return LedgerService(
        ledger=ledger,
        dead_letters_topic=DEAD,
        feedback=FeedbackService(book=FeedbackBook(engine), topic="rag.feedback.v1", clock=lambda: NOON),
        clock=lambda: NOON,
        observe=observed.append,
    )


def record(value: bytes, *, topic: str = JUDGEMENTS, offset: int = 0) -> Record:
    return Record(topic=topic, partition=1, offset=offset, key=None, value=value, high_watermark=100, timestamp=0.0)


def records(*messages: Assessment | DeadLetter) -> list[Record]:
    return [
        record(encode_assessment(message), offset=offset)
        if isinstance(message, Assessment)
        else record(encode_dead_letter(message), topic=DEAD, offset=offset)
        for offset, message in enumerate(messages)
    ]


def test_both_topics_are_recorded_in_one_transaction(
    engine: Engine, service: LedgerService, observed: list[Recorded]
) -> None:
    service.work(records(assessment(0, escalated=True), dead_letter(1), assessment(2, probability=None)))
    [seen] = observed
    [report] = seen.reports
    assert (report.verdicts, report.dead_letters, report.unjudged, report.escalated) == (1, 1, 1, 1)
    assert seen.behind == {(JUDGEMENTS, 1): 97, (DEAD, 1): 98}
    assert accounting(engine).in_flight == 0


def test_a_batch_of_many_bytes_is_recorded_chunk_by_chunk(
    engine: Engine, service: LedgerService, observed: list[Recorded]
) -> None:
    first, last = records(assessment(0), assessment(1))
    batch = [first, record(b"x" * CHUNK_BYTES, offset=7), replace(last, offset=8)]
    service.work(batch)
    assert [(len(seen.reports), len(seen.refused)) for seen in observed] == [(1, 0), (0, 1), (1, 0)]
    assert [seen.behind for seen in observed] == [{(JUDGEMENTS, 1): behind} for behind in (99, 92, 91)]
    service.work(batch)
    assert accounting(engine).verdicts == 2
    assert recount(engine) == []


def test_the_same_records_again_change_nothing(
    engine: Engine, service: LedgerService, observed: list[Recorded]
) -> None:
    batch = records(assessment(0), dead_letter(1))
    service.work(batch)
    service.work(batch)
    assert [report.redelivered for seen in observed for report in seen.reports] == [0, 2]
    assert recount(engine) == []


@pytest.mark.parametrize("topic", [JUDGEMENTS, DEAD])
@pytest.mark.parametrize("value", [b"", b"\xff", b"{}", b'{"schema": "judgement.v9"}'])
def test_a_record_that_is_no_message_is_kept_and_stops_nothing(
    engine: Engine, service: LedgerService, observed: list[Recorded], topic: str, value: bytes
) -> None:
    service.work([record(value, topic=topic, offset=7), *records(assessment(0))])
    with transaction(engine) as connection:
        row = connection.execute(select(dead_letters)).one()
    assert (row.topic, row.partition, row.offset, row.reason, row.raw) == (topic, 1, 7, "unreadable", value)
    assert [letter.reason for letter in observed[0].refused] == [DeadLetterReason.UNREADABLE]
    # Not a record of the traces topic, so no trace of it is accounted for by this.
    found = accounting(engine)
    assert (found.verdicts, found.dead_letters) == (1, 0)


def test_what_postgres_refuses_is_buried_alone(
    engine: Engine, service: LedgerService, observed: list[Recorded]
) -> None:
    others = [assessment(offset) for offset in range(9) if offset != 2]
    service.work(records(*others[:2], UNSTORABLE, *others[2:], dead_letter(9)))
    found = accounting(engine)
    assert (found.verdicts, found.dead_letters, found.lost) == (8, 2, 0)
    assert [letter.origin.offset for letter in observed[0].refused] == [2]
    with transaction(engine) as connection:
        row = connection.execute(select(dead_letters).where(dead_letters.c.offset == 2)).one()
    assert (row.topic, row.reason) == (TOPIC, "invalid")
    assert row.detail.startswith("not storable: ")
    # What lay on the traces topic, so that it can be sent there again; not what a judge made of it.
    lay = encode_trace(UNSTORABLE.trace)
    assert (row.raw, row.raw_bytes) == (lay, len(lay))
    service.work(records(UNSTORABLE))
    assert accounting(engine) == found
    assert recount(engine) == []


def test_a_record_whose_origin_cannot_be_stored_is_kept_under_its_own_place(
    engine: Engine, service: LedgerService, observed: list[Recorded]
) -> None:
    nowhere = replace(assessment(2), origin=replace(assessment(2).origin, partition=2**40))
    service.work(records(assessment(0), nowhere, assessment(1)))
    assert accounting(engine).verdicts == 2
    with transaction(engine) as connection:
        row = connection.execute(select(dead_letters)).one()
    assert (row.topic, row.partition, row.offset) == (JUDGEMENTS, 1, 1)
    assert [letter.reason for letter in observed[0].refused] == [DeadLetterReason.INVALID]
    assert recount(engine) == []


def test_an_outage_is_for_the_caller_to_wait_out(
    engine: Engine, service: LedgerService, observed: list[Recorded], postgres_server: EmbeddedPostgres
) -> None:
    batch = records(assessment(0), UNSTORABLE)
    postgres_server.stop()
    try:
        with pytest.raises(LedgerUnavailable):
            service.work(batch)
    finally:
        postgres_server.start()
    assert observed == []
    service.work(batch)
    assert accounting(engine).verdicts == 1
