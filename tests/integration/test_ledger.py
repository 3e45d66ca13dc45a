"""The write path on a real Postgres: every record once, whatever comes again, in whatever order."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, select, text

from monitor.config import PostgresSettings
from monitor.domain.dead_letter import DeadLetter
from monitor.domain.errors import LedgerUnavailable
from monitor.domain.trace import Document
from monitor.domain.verdict import Assessment
from monitor.embedded.postgres import EmbeddedPostgres
from monitor.storage.accounting import Accounting, accounting
from monitor.storage.engine import LedgerRefused, create_ledger_engine, transaction
from monitor.storage.ledger import Ledger, RecordReport
from monitor.storage.recount import recount
from monitor.storage.tables import (
    dead_letters,
    escalations,
    intake,
    judgements,
    judges,
    metadata,
    receipts,
    rollups,
    traces,
    verdicts,
)
from monitor.wire import decode_assessment
from tests.examples.assessments import EDGE, SCREEN, SPAN, assessment, dead_letter, judgement, verdict

Records = tuple[list[Assessment], list[DeadLetter]]


def rows(engine: Engine, table: Any) -> list[dict[str, Any]]:
    with transaction(engine) as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def contents(engine: Engine) -> dict[str, list[str]]:
    """All tables, in no order, the history as it is read; numbers and times that the database gives are left out."""
    given = {"id", "created_at", "available_at", "updated_at", "arrived_at", "changed", "verdict_id", "segment_id"}
    numbered = {"segments", "decisions", "choices", "topics", "verdict_rows", "judgement_rows", "payloads"}
    ranges = {"receipt_ranges", "duplicates"}
    tables = [table for table in metadata.sorted_tables if table.name not in numbered | ranges]
    return {
        table.name: sorted(
            repr({name: value for name, value in row.items() if name not in given}) for row in rows(engine, table)
        )
        for table in [*tables, verdicts, judgements, traces, receipts]
    }


def counted(engine: Engine) -> Accounting:
    """The accounting, after checking that all tables agree with it."""
    found = accounting(engine)
    ends = found.verdicts + found.unjudged + found.dead_letters + found.duplicates
    assert found.accepted == ends + found.in_flight
    assert recount(engine) == []
    return found


def test_a_verdict_is_kept_with_all_that_led_to_it(engine: Engine, ledger: Ledger) -> None:
    said = assessment(3, probability=0.75, end=10)
    assert ledger.record([said]) == RecordReport(verdicts=1)
    [row] = rows(engine, verdicts)
    assert {name: value for name, value in row.items() if name not in {"verdict_id", "segment_id"}} == {
        "tenant": "city",
        "trace_id": "t-0-3",
        "evaluator": "faithfulness",
        "judge_version": said.judge_version,
        "service": "help-desk",
        "environment": "production",
        "event_time": said.trace.event_time,
        "judged_at": said.judged_at,
        "outcome": "verdict",
        "label": "hallucinated",
        "probability": 0.75,
        "reason": None,
        "detail": None,
        "first_label": "hallucinated",
        "first_probability": 0.75,
        "revision": 0,
        "revised_at": None,
        "reasoning": "The moon has no library.",
        "unsupported": [
            {"start": 0, "end": 5, "score": 0.75, "document_id": "d", "document_start": 1, "document_end": 4}
        ],
        "decided_by": [SCREEN.version],
        "action": "accept",
        "decision_reason": "sure",
        "inclusion_probability": 0.02,
        "sampling_probability": 1.0,
        "topic": said.origin.log,
        "partition": 0,
        "offset": 3,
        "replay_id": None,
        "escalated": False,
    }
    [payload] = rows(engine, traces)
    assert payload["documents"] == [
        {"id": "d", "text": "The library opens at nine.", "score": 0.5, "metadata": {"page": 1}}
    ]
    assert (payload["question"], payload["answer"], payload["tags"]) == (
        said.trace.question,
        said.trace.answer,
        {"release": "7"},
    )


def test_judgements_name_their_judges_in_order(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0)])
    screen, edge = rows(engine, judgements)
    assert (screen["sequence"], screen["judge"], screen["raw_score"], screen["probability"]) == (
        0,
        SCREEN.version,
        0.5,
        0.25,
    )
    assert (screen["latency_us"], screen["prompt_tokens"], screen["reason"]) == (2000, 7, None)
    assert screen["unsupported"][0]["score"] == SPAN.score
    assert screen["windows"] == [
        {"raw_score": 0.5, "passages": [{"document_id": "d", "start": 0, "end": 11}]},
        {"raw_score": None, "passages": [{"document_id": "d", "start": 4, "end": 26}]},
    ]
    assert edge["windows"] is None
    assert (edge["sequence"], edge["judge"], edge["raw_score"]) == (1, EDGE.version, None)
    assert (edge["reason"], edge["detail"], edge["latency_us"]) == ("unparseable", "no verdict in it", 500_000)
    known = {row["judge"]: row for row in rows(engine, judges)}
    assert set(known) == {SCREEN.version, EDGE.version}
    assert (known[EDGE.version]["quantisation"], known[EDGE.version]["tier"]) == ("Q4_1", "edge")


def test_the_four_ends_of_a_record_and_what_is_in_flight(engine: Engine, ledger: Ledger) -> None:
    report = ledger.record(
        [
            assessment(0, end=8),
            assessment(1, probability=None),
            assessment(2, probability=None, escalated=True),
            assessment(3, trace_id="t-0-0"),
        ],
        [dead_letter(4, end=9)],
    )
    assert report == RecordReport(verdicts=1, unjudged=1, pending=1, duplicates=1, dead_letters=1, escalated=1)
    assert counted(engine) == Accounting(
        accepted=9, verdicts=1, unjudged=1, dead_letters=1, duplicates=1, in_flight=5, pending=1, lost=0
    )


def test_rollups_count_minutes_of_event_time(engine: Engine, ledger: Ledger) -> None:
    ledger.record(
        [
            assessment(0, probability=0.9, seconds_past_noon=1, escalated=True),
            assessment(1, probability=0.1, seconds_past_noon=59),
            assessment(2, probability=None, seconds_past_noon=2),
            assessment(3, probability=0.3, seconds_past_noon=60),
        ]
    )
    first, second = sorted(rows(engine, rollups), key=lambda row: row["minute"])
    counts = ("traces", "total", "hallucinated", "unjudged", "pending", "first_total", "first_hallucinated")
    assert [first[name] for name in counts] == [3, 2, 1, 1, 0, 2, 1]
    assert (first["escalated"], float(first["sum_probability"]), first["local_latency_us"]) == (1, 1.0, 3 * 502_000)
    assert (second["total"], second["hallucinated"]) == (1, 0)
    assert counted(engine).verdicts == 3


def test_an_escalation_waits_by_value(engine: Engine, ledger: Ledger) -> None:
    said = assessment(0, escalated=True, priority=7)
    ledger.record([said, assessment(1)])
    with transaction(engine) as connection:
        [row] = connection.execute(select(escalations, text("assessment::text as json"))).mappings().all()
    assert (row["state"], row["priority"], row["reason"]) == ("waiting", 7, "audit")
    assert decode_assessment(row["json"].encode()) == said


def test_a_dead_letter_keeps_its_bytes(engine: Engine, ledger: Ledger) -> None:
    ledger.record([], [dead_letter(5)])
    [row] = rows(engine, dead_letters)
    assert (row["offset"], bytes(row["raw"]), row["reason"]) == (5, b"\x00\xff", "not_json")
    assert counted(engine).lost == 5


def test_a_stray_has_no_receipt(engine: Engine, ledger: Ledger) -> None:
    stray = replace(dead_letter(5), origin=replace(dead_letter(5).origin, topic="rag.judgements.v1"))
    for _ in range(2):
        ledger.record_strays([stray])
    assert len(rows(engine, dead_letters)) == 1
    assert counted(engine).accepted == 0


def test_redelivery_changes_nothing_but_the_end_of_the_partition(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0, end=1), assessment(1, trace_id="t-0-0")], [dead_letter(2)])
    before = contents(engine)
    again = ledger.record([assessment(0, probability=0.9, end=7), assessment(1, trace_id="t-0-0")], [dead_letter(2)])
    assert again == RecordReport(redelivered=3)
    after = contents(engine)
    assert before.pop("intake") != after.pop("intake")
    assert after == before
    assert counted(engine).accepted == 7


def test_a_topic_made_anew_starts_at_zero_without_hiding_behind_the_old_one(engine: Engine, ledger: Ledger) -> None:
    first, second = (
        replace(said, origin=replace(said.origin, topic_id=life))
        for said, life in ((assessment(0, trace_id="old"), "life-1"), (assessment(0, trace_id="new"), "life-2"))
    )
    assert ledger.record([first]) == RecordReport(verdicts=1)
    assert ledger.record([second]) == RecordReport(verdicts=1)
    assert ledger.record([first, second]) == RecordReport(redelivered=2)
    assert {row["topic"] for row in rows(engine, receipts)} == {first.origin.log, second.origin.log}
    assert counted(engine).accepted == 2
    assert recount(engine) == []


def test_a_record_has_one_end_whatever_is_said_later(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0)], [dead_letter(1)])
    assert ledger.record([assessment(1)], [dead_letter(0)]) == RecordReport(redelivered=2)
    assert [row["outcome"] for row in sorted(rows(engine, receipts), key=lambda row: row["offset"])] == [
        "verdict",
        "dead_letter",
    ]
    assert len(rows(engine, dead_letters)) == 1
    assert counted(engine).verdicts == 1


def test_a_trace_id_is_taken_by_its_first_record(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0, trace_id="same")])
    later = assessment(1, trace_id="same", probability=0.9, answer="Another.", judge_version="cascade@000000000002")
    other_tenant = assessment(2, trace_id="same", tenant="village")
    assert ledger.record([later, other_tenant]) == RecordReport(verdicts=1, duplicates=1)
    kept = {row["tenant"]: row for row in rows(engine, verdicts)}
    assert (kept["city"]["probability"], kept["city"]["judge_version"]) == (0.25, later.judge_version[:-1] + "1")
    assert set(kept) == {"city", "village"}
    assert {row["answer"] for row in rows(engine, traces)} == {"At ten, on the moon."}
    assert counted(engine).duplicates == 1


def test_a_duplicate_of_a_dead_record_is_no_duplicate(engine: Engine, ledger: Ledger) -> None:
    ledger.record([], [dead_letter(5)])
    assert ledger.record([assessment(5, trace_id="t"), assessment(9, trace_id="t")]) == RecordReport(
        verdicts=1, redelivered=1
    )


def test_hostile_text_is_stored_without_what_postgres_cannot_store(engine: Engine, ledger: Ledger) -> None:
    bad = "a\x00b\ud800c"
    said = assessment(
        0,
        answer=bad,
        question="\x00'); drop table verdicts; --",
        documents=(Document(id="d", text=bad, metadata={bad: [bad]}),),
        tags={"k\x00": bad},
    )
    opinion = replace(judgement().result, reasoning=bad)
    said = replace(
        said, judgements=(replace(judgement(), result=opinion),), outcome=replace(verdict(0.5), reasoning=bad)
    )
    assert ledger.record([said]) == RecordReport(verdicts=1)
    good = "a\N{REPLACEMENT CHARACTER}b?c"
    [payload] = rows(engine, traces)
    assert payload["documents"][0] == {"id": "d", "text": good, "score": None, "metadata": {good: [good]}}
    assert (payload["answer"], payload["tags"]) == (good, {"k\N{REPLACEMENT CHARACTER}": good})
    assert rows(engine, verdicts)[0]["reasoning"] == good
    assert rows(engine, judgements)[0]["reasoning"] == good


@pytest.mark.parametrize(
    "refused",
    [
        replace(assessment(1), outcome=replace(verdict(0.5), probability=1.5)),
        replace(assessment(1), judgements=(replace(judgement(), latency_seconds=1e300),)),
        assessment(1, trace_id="".join(random.Random(1).choices("abcdefgh", k=20_000))),
        assessment(1, documents=(Document(id="d", text="", metadata={"score": float("nan")}),)),
    ],
    ids=["probability", "number", "key", "json"],
)
def test_what_postgres_will_never_store_is_refused_whole(engine: Engine, ledger: Ledger, refused: Assessment) -> None:
    with pytest.raises(LedgerRefused):
        ledger.record([assessment(0), refused])
    assert rows(engine, receipts) == []
    assert ledger.record([assessment(0)]) == RecordReport(verdicts=1)


def test_an_empty_batch_is_no_batch(engine: Engine, ledger: Ledger) -> None:
    assert ledger.record([]) == RecordReport()
    assert rows(engine, intake) == []


def _stream(seed: int) -> Records:
    """Three partitions of records: escalations, failures, duplicates of ids and dead letters among them."""
    chance = random.Random(seed)
    said, dead = [], []
    for partition in range(3):
        for offset in range(60):
            kind = chance.random()
            if kind < 0.1:
                dead.append(dead_letter(offset, partition=partition, end=offset + 1 + chance.randrange(5)))
                continue
            # A producer writes one trace id to one partition, so copies keep their order.
            twin = offset - chance.randrange(1, 10) if kind < 0.3 else offset
            said.append(
                assessment(
                    offset,
                    partition=partition,
                    trace_id=f"t-{partition}-{max(twin, 0)}",
                    probability=None if kind > 0.9 else round(chance.random(), 6),
                    escalated=chance.random() < 0.2,
                    seconds_past_noon=chance.uniform(0, 300),
                    service=chance.choice(["help-desk", "web"]),
                    end=offset + 1 + chance.randrange(5),
                )
            )
    return said, dead


def _deliveries(records: Records, chance: random.Random) -> Iterator[Records]:
    """The same records in batches, as a topic gives them: batches come again, whole or in part."""
    said, dead = records
    items: list[Assessment | DeadLetter] = sorted(
        [*said, *dead], key=lambda item: (item.origin.offset, item.origin.partition)
    )
    position = 0
    while position < len(items):
        end = position + chance.randrange(1, 40)
        batch = items[position:end]
        if chance.random() < 0.3:
            batch = batch + chance.choices(batch, k=5)
        yield (
            [item for item in batch if isinstance(item, Assessment)],
            [item for item in batch if isinstance(item, DeadLetter)],
        )
        # A restart goes back to some offset that was committed.
        position = max(0, end - chance.randrange(20)) if chance.random() < 0.4 else end


@pytest.mark.parametrize("seed", range(4))
def test_any_redelivery_comes_to_the_same_tables(
    engine: Engine, ledger: Ledger, empty_database: Any, migrated_template: str, seed: int
) -> None:
    records = _stream(seed)
    once = create_ledger_engine(PostgresSettings(url=SecretStr(empty_database(template=migrated_template))))
    try:
        Ledger(once).record(*records)
        for said, dead in _deliveries(records, random.Random(seed)):
            ledger.record(said, dead)
            assert recount(engine) == []
        assert contents(engine) == contents(once)
        assert counted(engine).lost == 0
        assert len(rows(engine, receipts)) == 180
    finally:
        once.dispose()


@pytest.mark.parametrize("seed", range(3))
def test_two_ledgers_at_once_write_everything_once(engine: Engine, seed: int) -> None:
    records = _stream(seed)

    def work(worker: int) -> int:
        # Each has a connection of its own from the pool, and its own idea of the batches.
        mine = Ledger(engine)
        chance = random.Random(10 * seed + worker)
        return sum(mine.record(said, dead).inserted for said, dead in _deliveries(records, chance))

    with ThreadPoolExecutor(2) as pool:
        inserted = sum(pool.map(work, range(2)))
    found = counted(engine)
    assert inserted == len(rows(engine, receipts)) == 180
    assert found.lost == 0
    assert found.verdicts + found.unjudged + found.pending == len(rows(engine, verdicts))


def test_an_outage_is_unavailability_and_loses_nothing(
    postgres_server: EmbeddedPostgres, engine: Engine, ledger: Ledger
) -> None:
    ledger.record([assessment(0)])
    postgres_server.stop()
    try:
        with pytest.raises(LedgerUnavailable):
            ledger.record([assessment(1)])
    finally:
        postgres_server.start()
    assert ledger.record([assessment(0), assessment(1)]) == RecordReport(verdicts=1, redelivered=1)
    assert counted(engine).verdicts == 2


def test_a_server_that_ends_a_session_is_unavailable_once(engine: Engine, ledger: Ledger) -> None:
    with pytest.raises(LedgerUnavailable, match="terminat"), transaction(engine) as connection:
        connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))
    assert ledger.record([assessment(0)]) == RecordReport(verdicts=1)


def test_a_statement_that_takes_too_long_is_cancelled(postgres_url: str) -> None:
    settings = PostgresSettings(url=SecretStr(postgres_url), statement_timeout_seconds=0.05)
    engine = create_ledger_engine(settings)
    with pytest.raises(LedgerUnavailable, match="timeout"), transaction(engine) as connection:
        connection.execute(text("select pg_sleep(60)"))
    engine.dispose()


def test_a_database_without_tables_says_what_to_do(empty_database: Any) -> None:
    engine = create_ledger_engine(PostgresSettings(url=SecretStr(empty_database())))
    with pytest.raises(LedgerUnavailable, match="groundwatch migrate"):
        Ledger(engine).record([assessment(0)])
    engine.dispose()


@pytest.mark.parametrize("seed", range(3))
def test_two_versions_of_the_cascade_race_for_the_same_traces(engine: Engine, seed: int) -> None:
    def work(worker: int) -> list[RecordReport]:
        said = [
            assessment(number, partition=worker, trace_id=f"t-{number}", judge_version=f"cascade@{worker}")
            for number in random.Random(seed + worker).sample(range(120), 120)
        ]
        return [Ledger(engine).record(said[start : start + 20]) for start in range(0, 120, 20)]

    with ThreadPoolExecutor(2) as pool:
        reports = [report for written in pool.map(work, range(2)) for report in written]
    assert sum(report.verdicts for report in reports) == sum(report.duplicates for report in reports) == 120
    assert len({row["trace_id"] for row in rows(engine, verdicts)}) == len(rows(engine, verdicts)) == 120
    assert recount(engine) == []


def test_an_id_that_is_used_again_days_later_is_another_trace(engine: Engine, ledger: Ledger) -> None:
    day = 24 * 3600.0
    first = assessment(0, trace_id="t", escalated=True)
    again = assessment(1, trace_id="t", escalated=True, seconds_past_noon=0.9 * day)
    later = assessment(2, trace_id="t", escalated=True, seconds_past_noon=5 * day)
    assert ledger.record([first, again]).duplicates == 1
    assert ledger.record([later]).escalated == 1
    assert len(rows(engine, escalations)) == 2
    counted(engine)


def test_what_is_at_odds_with_what_is_there_is_refused_and_not_tried_for_ever(engine: Engine, ledger: Ledger) -> None:
    said = assessment(0)
    ledger.record([said])
    with transaction(engine) as connection:
        connection.execute(text("delete from verdict_rows"))
    with pytest.raises(LedgerRefused, match="duplicate key"):
        ledger.record([replace(said, origin=replace(said.origin, offset=1))])


def test_offsets_far_apart_are_looked_for_apart(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(offset) for offset in (0, 5000, 5001, 9000, 20_000)])
    again = ledger.record([assessment(offset) for offset in (0, 1, 5001, 9000, 19_999, 20_000)])
    assert (again.redelivered, again.verdicts) == (4, 2)
    counted(engine)
